/** Bodies are numbered lines of 16 bytes, so that a byte that is lost, doubled or out of place is seen. wrk.lua has the same. */
export function body(size: number): Buffer {
  const content = Buffer.alloc(size)
  for (let at = 0, line = 0; at < size; at += 16, line++)
    content.write(`${String(line).padStart(15, '0')}\n`, at, 'latin1')
  return content
}

export const KiB = 1024
export const MiB = 1024 * 1024

/** The bodies that an upstream answers with: the path says how large. */
export const sizes = { '/64B': 64, '/64KiB': 64 * KiB, '/10MiB': 10 * MiB } as const

/** Compares a stream, chunk by chunk, with the body that it should be. */
export class Comparison {
  readonly #expected: Buffer
  #seen = 0
  #problem: string | undefined

  constructor(expected: Buffer) {
    this.#expected = expected
  }

  add(chunk: Uint8Array): void {
    const next = this.#expected.subarray(this.#seen, this.#seen + chunk.length)
    if (next.compare(chunk) !== 0) this.#problem ??= `wrong bytes within ${chunk.length} from offset ${this.#seen}`
    this.#seen += chunk.length
  }

  /** What is wrong, once all of the stream was added. */
  problem(): string | undefined {
    if (this.#seen === this.#expected.length) return this.#problem
    return this.#problem ?? `${this.#seen} bytes instead of ${this.#expected.length}`
  }
}
