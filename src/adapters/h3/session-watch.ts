import type { Http2Session } from 'node:http2'
import { isReset } from '../clients/reset.ts'

/**
 * Finds connections of HTTP/2 that were reset, and that Node.js waits for: it does not read while it writes, and the write that took the
 * reset from it is never over (see `noticeReset`). One timer for all of them, none while there are none.
 */
export class SessionWatch {
  readonly #sessions = new Set<Http2Session>()
  #timer: NodeJS.Timeout | undefined

  add(session: Http2Session): void {
    if (this.#sessions.has(session) || session.destroyed) return
    this.#sessions.add(session)
    session.once('close', () => this.#sessions.delete(session))
    this.#timer ??= setInterval(() => this.#look(), interval).unref()
  }

  #look(): void {
    for (const session of this.#sessions) {
      if (session.destroyed) this.#sessions.delete(session)
      else if (isReset(session.socket)) session.destroy()
    }
    if (this.#sessions.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}

const interval = 1_000
