/**
 * Spellings of the names of header fields. CGI, and what is made after it (WSGI, Rack), reads `X_Forwarded_For` as
 * `X-Forwarded-For`; PHP does so with `X.Forwarded.For`, too.
 */
const otherThanHyphens = /[_.]/

/** Whether a field may be taken for another one, which is spelled with hyphens. */
export function isRespelled(name: string): boolean {
  return otherThanHyphens.test(name)
}

/** The name that a field, in lower case, may be taken for. */
export function withHyphens(name: string): string {
  return name.replaceAll(/[_.]/g, '-')
}

/** Request fields that tell whose session a request is for. */
export class TellingFields {
  readonly #names: ReadonlySet<string>
  readonly #meant: ReadonlySet<string>
  readonly #suspicious: RegExp

  constructor(names: readonly string[]) {
    const lower = names.map((name) => name.toLowerCase())
    this.#names = new Set(lower)
    this.#meant = new Set(lower.map(withHyphens))
    // A field that is respelled itself can be taken for the one with hyphens.
    this.#suspicious = lower.some(isRespelled) ? /[-_.]/ : otherThanHyphens
  }

  /** Whether one of them has a separator that a field of this name has, too: the others need no lowercasing. */
  mayMean(name: string): boolean {
    return this.#suspicious.test(name)
  }

  /** @param name in lower case. */
  has(name: string): boolean {
    return this.#names.has(name)
  }

  /** Whether a field, in lower case, is none of them but may be taken for one. */
  isMeantBy(name: string): boolean {
    return !this.#names.has(name) && this.#meant.has(withHyphens(name))
  }
}
