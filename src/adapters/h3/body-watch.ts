import type { ServerResponse } from 'node:http'

interface BodyWatchOptions {
  /** Longest silence while bytes are expected from the client, in milliseconds; `0`: no limit. */
  readonly bodyTimeout: number
  readonly onTimeout: () => void
}

/**
 * Bounds the silence of a client within its body, by the timer of its connection, which any byte that moves sets back. Made only
 * for the exchanges with a body that comes in pieces. The timer is set once, and only when it fires is it looked at whether the
 * client owes anything.
 */
export class BodyWatch {
  readonly #res: ServerResponse
  readonly #options: BodyWatchOptions
  #isExpected = false
  #isArmed = false

  constructor(res: ServerResponse, options: BodyWatchOptions) {
    this.#res = res
    this.#options = options
    res.on('timeout', () => this.#check())
  }

  /** Whether the client owes more of its body, and is read. */
  expect(isExpected: boolean): void {
    this.#isExpected = isExpected
    const { bodyTimeout } = this.#options
    if (!isExpected || this.#isArmed || bodyTimeout === 0) return
    this.#isArmed = true
    this.#res.setTimeout(bodyTimeout)
  }

  #check(): void {
    // The timer of an idle keep-alive connection is Node's.
    if (!this.#isArmed) return
    this.#isArmed = false
    if (this.#isExpected) this.#options.onTimeout()
  }
}
