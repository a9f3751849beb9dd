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
 * buffers.
 */
export class ClientWatch {
  readonly #res: ServerResponse
  readonly #options: ClientWatchOptions
  #isExpected = false
  #isBlocked = false
  #armed = 0

  constructor(res: ServerResponse, options: ClientWatchOptions) {
    this.#res = res
    this.#options = options
    res.on('timeout', () => {
      // The one of a keep-alive connection is Node's business.
      if (this.#armed > 0) options.onTimeout()
    })
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

  #arm(): void {
    const { bodyTimeout, sendTimeout } = this.#options
    const timeout = this.#isBlocked ? sendTimeout : this.#isExpected ? bodyTimeout : 0
    if (timeout === this.#armed) return
    this.#armed = timeout
    this.#res.setTimeout(timeout)
  }
}
