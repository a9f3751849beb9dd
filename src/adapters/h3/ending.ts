import type { Socket } from 'node:net'
import { isReset } from '../clients/reset.ts'

/**
 * How a connection to a worker ends. Whatever is sent on it is read first, and then an end is met, of which this knows whether it was
 * a reset. Node.js has it otherwise in four ways, each of which loses what was sent, or the difference:
 *
 * - The first write that fails destroys a socket. A worker may answer an upload that it does not want, and close (RFC 9112 §9.5).
 * - The kernel tells of a reset once: when a write was told, a read meets what looks like a proper end.
 * - Of a hang-up that comes with the last bytes, libuv makes a proper end without asking for what was behind it.
 * - A read that fails throws away what was read before, when nobody has taken it yet.
 */
export class Ending {
  readonly #socket: Socket
  /** Of a unix socket nothing is lost by a reset: it means that the other end closed with bytes unread. */
  readonly #isLocal: boolean
  /** The first write that failed, as the other end had closed or reset the connection. */
  #unwritten: NodeJS.ErrnoException | undefined
  #reset: Error | undefined
  #callback: Callback | undefined
  #onWritten: Callback = () => {}

  constructor(socket: Socket, isLocal: boolean) {
    this.#socket = socket
    this.#isLocal = isLocal
    const write = socket._write.bind(socket)
    const writev = socket._writev?.bind(socket)
    const push = socket.push.bind(socket)
    const destroy = socket.destroy.bind(socket)
    socket._write = (chunk, encoding, callback) => write(chunk, encoding, this.#afterwards(callback))
    if (writev) socket._writev = (chunks, callback) => writev(chunks, this.#afterwards(callback))
    socket.push = (chunk, encoding) => {
      if (chunk !== null) return push(chunk, encoding)
      this.#settle(() => push(null))
      return false
    }
    socket.destroy = (error?: NodeJS.ErrnoException) => {
      if (error?.code !== 'ECONNRESET' || error.syscall !== 'read') return destroy(error)
      if (!this.#isLocal) this.#reset = error
      push(null)
      return socket
    }
  }

  /** What the connection was reset with, by the time that its end is met: then some of what the worker sent may be lost. */
  get reset(): Error | undefined {
    return this.#reset
  }

  /** What a stream has called after a write is the same function each time. */
  #afterwards(callback: Callback): Callback {
    if (callback !== this.#callback) {
      this.#callback = callback
      this.#onWritten = (error) => callback(this.#isTaken(error) ? null : error)
    }
    return this.#onWritten
  }

  #isTaken(error: NodeJS.ErrnoException | null | undefined): boolean {
    if (error?.code !== 'EPIPE' && error?.code !== 'ECONNRESET') return false
    this.#unwritten ??= error
    return true
  }

  /**
   * Of a connection that still stands in the one direction there was a proper end, and so there was where Linux says EPIPE: a reset
   * that answers what was written after the end. Only what comes of a write tells, and be it of nothing.
   */
  #settle(end: () => void): void {
    const isProper = this.#isLocal || !isReset(this.#socket)
    if (isProper || this.#unwritten !== undefined || !this.#socket.writable) {
      this.#conclude(end)
      return
    }
    this.#socket.write('', () => this.#conclude(end))
  }

  #conclude(end: () => void): void {
    if (!this.#isLocal && this.#unwritten?.code === 'ECONNRESET') this.#reset ??= this.#unwritten
    end()
  }
}

type Callback = (error?: Error | null) => void
