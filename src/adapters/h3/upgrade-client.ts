import { ServerResponse } from 'node:http'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { linger } from '../clients/linger.ts'
import type { Core } from './core.ts'
import { sendProblem } from './problem.ts'
import { limitSending } from './response.ts'

/**
 * Whether a response to an earlier request is still on its way on a connection. Node hands an upgrade over all the same, and
 * the bytes of both would mix: nobody may ask for one before that (RFC 6455 §4.1).
 */
export function isAnswering(socket: Socket & { _httpMessage?: unknown }): boolean {
  // Where Node keeps that response.
  const { _httpMessage: response } = socket
  return response !== undefined && response !== null
}

/** Takes the client of an upgrade over from Node. */
export function clientOf(core: Core, req: IncomingMessage, socket: Socket, head: Buffer): UpgradeClient {
  return new UpgradeClient(req, socket, head, core.settings.upstream.sendTimeout)
}

/** The client's side of an upgrade, from the moment that Node hands it over until it is answered. */
export class UpgradeClient {
  readonly req: IncomingMessage
  readonly socket: Socket
  readonly #stallTimeout: number
  readonly #early: Buffer[]
  #earlyBytes: number
  #reading = true
  readonly #onOver: (() => void)[] = []

  /** @param stallTimeout longest time that a client may be held back until it is answered; `0`: no limit. */
  constructor(req: IncomingMessage, socket: Socket, head: Buffer, stallTimeout: number) {
    this.#stallTimeout = stallTimeout
    this.req = req
    this.socket = socket
    this.#early = head.length === 0 ? [] : [head]
    this.#earlyBytes = head.length
    // Node has taken its own listener off: from here on a reset would be an uncaught exception.
    socket.on('error', () => {})
    // A client that leaves is only heard of while its connection is read, so early frames are read into memory, up to a
    // bound.
    socket.on('data', this.#onData)
    socket.on('end', this.#onEnd)
    socket.on('timeout', this.#onEnd)
    socket.once('close', () => this.#over())
    if (isAnswering(socket)) socket.destroy()
  }

  get gone(): boolean {
    return this.socket.destroyed
  }

  /** Calls `listener` when the client has left, or has got a response. */
  whenOver(listener: () => void): void {
    this.#onOver.push(listener)
  }

  /** Stops reading and returns what has been read. */
  takeEarly(): Buffer[] {
    this.#stop()
    return this.#early
  }

  /** An HTTP response on the connection, which is closed after it. */
  respond(): ServerResponse {
    this.#stop()
    const { req, socket } = this
    const res = new ServerResponse(req)
    res.shouldKeepAlive = false
    res.assignSocket(socket)
    socket.on('drain', () => res.emit('drain'))
    // Whoever ends before it is all sent has left.
    socket.on('end', this.#onEnd)
    res.on('finish', () => {
      socket.off('end', this.#onEnd)
      res.detachSocket(socket)
      linger(socket)
      this.#over()
    })
    socket.resume()
    return res
  }

  /** Answers with a problem. */
  refuse(core: Core, error: unknown, sessionId?: string): void {
    const refusal = core.report(this.req, error, { sessionId, cut: false })
    if (this.gone) return
    const res = this.respond()
    sendProblem(res, refusal, core.settings.retryAfter)
    limitSending(core, this.req, res, sessionId)
  }

  #over(): void {
    for (const listener of this.#onOver.splice(0)) listener()
  }

  #stop(): void {
    if (!this.#reading) return
    this.#reading = false
    this.socket.off('data', this.#onData)
    this.socket.off('end', this.#onEnd)
    this.socket.off('timeout', this.#onEnd)
    this.socket.setTimeout(0)
    this.socket.pause()
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#early.push(chunk)
    this.#earlyBytes += chunk.length
    if (this.#earlyBytes <= maxEarlyBytes) return
    this.socket.pause()
    this.socket.setTimeout(this.#stallTimeout)
  }

  readonly #onEnd = (): void => {
    this.socket.destroy()
  }
}

const maxEarlyBytes = 64 * 1024
