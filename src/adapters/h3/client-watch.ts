import type { ServerResponse } from 'node:http'

interface ClientWatchOptions {
  /** Longest silence while bytes are expected from the client, in milliseconds; `0`: no limit. */
  readonly bodyTimeout: number
  /** Longest time that bytes wait for the client, in milliseconds; `0`: no limit. */
  readonly sendTimeout: number
  readonly onTimeout: () => void
}

/**
 * Bounds how long a client keeps an exchange waiting, by the timer of its connection, which any byte that moves sets back.
 * Made only for the exchanges that wait at all: those with a body that comes in pieces, or more response than fits in the
 * buffers. The timer is set once, and only when it fires is it looked at whether the client owes anything.
 */
export class ClientWatch {
  readonly #res: ServerResponse
  readonly #options: ClientWatchOptions
  #isExpected = false
  #isBlocked = false
  /** What the timer is set to; `0` when it is not. */
  #armed = 0

  constructor(res: ServerResponse, options: ClientWatchOptions) {
    this.#res = res
    this.#options = options
    res.on('timeout', () => this.#check())
  }

  /** Whether the client owes more of its body, and is read. */
  expect(isExpected: boolean): void {
    this.#isExpected = isExpected
    this.#arm()
  }

  /** Whether bytes of the response wait for the client. */
  block(isBlocked: boolean): void {
    this.#isBlocked = isBlocked
    this.#arm()
  }

  get #limit(): number {
    const { bodyTimeout, sendTimeout } = this.#options
    if (this.#isBlocked) return sendTimeout
    return this.#isExpected ? bodyTimeout : 0
  }

  /** A timer that is set to less will do: it finds out. */
  #arm(): void {
    const limit = this.#limit
    if (limit === 0 || (this.#armed > 0 && this.#armed <= limit)) return
    this.#armed = limit
    this.#res.setTimeout(limit)
  }

  #check(): void {
    const silent = this.#armed
    const limit = this.#limit
    this.#armed = 0
    // The timer of an idle keep-alive connection is Node's.
    if (silent === 0 || limit === 0) return
    if (silent < limit) this.#arm()
    else this.#options.onTimeout()
  }
}
