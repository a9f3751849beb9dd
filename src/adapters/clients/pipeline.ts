import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { costOf } from './cost.ts'

/** Whether a request came before the response to an earlier one of its connection is over (RFC 9112 §9.3.2). */
export function isPipelined(res: ServerResponse): boolean {
  return res.socket === null
}

interface LineOptions {
  /** Longest time without a turn while the client is not read, so that nothing tells when it leaves; `0`: no limit. */
  readonly stallTimeout: number
  /** Told when that time is over, and the connection cut. */
  readonly onStalled: () => void
}

/**
 * Starts a pipelined request when the responses before it are over: one client connection holds one lease. Node keeps the
 * order, and hands the connection from one response to the next; when the client leaves it never does.
 */
export function inTurn(req: IncomingMessage, res: ServerResponse, options: LineOptions, start: () => void): void {
  const socket: Pipelined = req.socket
  const line = (socket[kLine] ??= new Line(socket, options))
  const size = sizeOf(req)
  line.join(size)
  res.once('socket', () => {
    line.leave(size)
    // Node hands on a connection that was cut, too.
    if (!socket.destroyed) start()
  })
}

const kLine = Symbol('corral.line')

type Pipelined = Socket & { [kLine]?: Line }

/** Bytes that waiting requests may take, 32 small ones, until their client is not read. What has been read with the last of them still joins. */
const maxWaiting = 32 * 1024

/** What keeping a request takes, in bytes. */
function sizeOf(req: IncomingMessage): number {
  let size = req.url?.length ?? 0
  for (const text of req.rawHeaders) size += text.length
  return costOf(req) + size
}

/** The requests of one connection that wait for their turn. */
class Line {
  readonly #socket: Socket
  readonly #options: LineOptions
  #waiting = 0
  #size = 0
  #timer: NodeJS.Timeout | undefined

  constructor(socket: Socket, options: LineOptions) {
    this.#socket = socket
    this.#options = options
    socket.once('close', () => clearTimeout(this.#timer))
  }

  join(size: number): void {
    this.#size += size
    if (this.#size >= maxWaiting) process.nextTick(() => this.#hold())
    if (this.#waiting++ === 0) this.#watch()
  }

  leave(size: number): void {
    const wasHeld = this.#size >= maxWaiting
    this.#size -= size
    this.#waiting--
    if (wasHeld && this.#size < maxWaiting) this.#socket.resume()
    clearTimeout(this.#timer)
    if (this.#waiting > 0) this.#watch()
  }

  /** Once Node is through with what it has read: it starts reading again after every request of it. */
  #hold(): void {
    if (this.#size >= maxWaiting) this.#socket.pause()
  }

  #watch(): void {
    const { stallTimeout } = this.#options
    if (stallTimeout > 0 && !this.#socket.destroyed) this.#timer = setTimeout(() => this.#check(), stallTimeout)
  }

  /** The client may be paused by Node, too: for the body of a waiting request. */
  #check(): void {
    if (!this.#socket.isPaused()) {
      this.#watch()
      return
    }
    this.#options.onStalled()
    this.#socket.destroy()
  }
}
