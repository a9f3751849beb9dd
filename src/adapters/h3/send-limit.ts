/** Who sends to a client. */
export interface Sender {
  /** Bytes that wait for the client. */
  readonly unsent: number
  /** The client has taken nothing for too long. */
  onClientStalled(): void
}

interface Wait {
  /** The beat at which it began. */
  readonly since: number
  readonly unsent: number
}

/**
 * Bounds how long bytes wait for clients that take none. One timer for all of them, none while none wait: over TLS every response
 * waits, for a moment.
 */
export class SendLimit {
  readonly #timeout: number
  /** The longest ones first. */
  readonly #waits = new Map<Sender, Wait>()
  #beat = 0
  #timer: NodeJS.Timeout | undefined

  /** @param timeout longest time that bytes wait, in milliseconds, which is kept to a quarter of it; `0`: no limit. */
  constructor(timeout: number) {
    this.#timeout = timeout
  }

  /** Bytes wait from now on, or still. */
  add(sender: Sender): void {
    if (this.#timeout === 0 || this.#waits.has(sender)) return
    this.#waits.set(sender, { since: this.#beat, unsent: sender.unsent })
    this.#timer ??= setInterval(() => this.#look(), Math.max(1, this.#timeout / beatsPerTimeout)).unref()
  }

  /** Everything has been taken, or is given up. */
  delete(sender: Sender): void {
    this.#waits.delete(sender)
  }

  #look(): void {
    this.#beat++
    for (const [sender, { since, unsent }] of this.#waits) {
      // What began within a beat has not waited for all of it.
      if (this.#beat - since <= beatsPerTimeout) break
      this.#waits.delete(sender)
      if (sender.unsent === unsent) sender.onClientStalled()
      else this.add(sender)
    }
    if (this.#waits.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}

const beatsPerTimeout = 4
