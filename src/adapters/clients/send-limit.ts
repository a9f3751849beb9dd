/** Who sends to a client. */
export interface Sender {
  /** Bytes that wait for the client. */
  readonly unsent: number
  /** All that its connection has sent, if responses share that: those of others move it, too. Else `undefined`. */
  readonly sentByAll: number | undefined
  /** The client has taken nothing for too long. */
  onClientStalled(): void
}

interface Wait {
  /** The beat at which it began. */
  readonly begun: number
  /** The beat at which something was last seen to move. */
  readonly since: number
  readonly unsent: number
  readonly sentByAll: number | undefined
}

/**
 * Bounds how long bytes wait for clients that take none. One timer for all of them, none while none wait: over TLS every response
 * waits, for a moment.
 */
export class SendLimit {
  readonly #timeout: number
  /** Those whose last move is longest ago first. */
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
    this.#wait(sender, this.#beat)
    this.#timer ??= setInterval(() => this.#look(), Math.max(1, this.#timeout / beatsPerTimeout)).unref()
  }

  /** Everything has been taken, or is given up. */
  delete(sender: Sender): void {
    this.#waits.delete(sender)
  }

  #wait(sender: Sender, begun: number): void {
    const { unsent, sentByAll } = sender
    this.#waits.set(sender, { begun, since: this.#beat, unsent, sentByAll })
  }

  #look(): void {
    this.#beat++
    for (const [sender, wait] of this.#waits) {
      // What began within a beat has not waited for all of it.
      if (this.#beat - wait.since <= beatsPerTimeout) break
      this.#waits.delete(sender)
      if (sender.unsent !== wait.unsent) this.#wait(sender, this.#beat)
      else if (this.#mayBeStarved(sender, wait)) this.#wait(sender, wait.begun)
      else sender.onClientStalled()
    }
    if (this.#waits.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** The client reads, and maybe others' bytes first, or too little of these to show: they count once a whole piece is gone. */
  #mayBeStarved({ sentByAll }: Sender, wait: Wait): boolean {
    return sentByAll !== wait.sentByAll && this.#beat - wait.begun <= starvedTimeouts * beatsPerTimeout
  }
}

const beatsPerTimeout = 4
/** How many times the limit a response may wait while others of its connection go out. */
const starvedTimeouts = 16
