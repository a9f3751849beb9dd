import type { IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { lingerWithin } from '../clients/linger.ts'
import type { Flow, TurnBudget } from '../clients/turn-budget.ts'
import { http2Request, stopUpload } from './http2.ts'
import { Refusal } from './problem.ts'

/**
 * The body of a client's request as undici takes it. undici destroys the stream that it is given, as soon as the worker has
 * answered; destroying the request itself would take the client's connection along, or leave it out of step.
 */
export class RequestBody extends Readable implements Flow {
  readonly #req: IncomingMessage
  readonly #budget: TurnBudget
  readonly #onFlow: (flow: BodyFlow) => void
  #held = false
  /** Bytes that have come so far. */
  received = 0

  /**
   * @param onFlow told whenever the worker begins or ends to hold the client back, and when the body ends. A client that is
   * held back is not read, and its leaving not heard of.
   */
  constructor(req: IncomingMessage, budget: TurnBudget, onFlow: (flow: BodyFlow) => void) {
    super()
    this.#req = req
    this.#budget = budget
    this.#onFlow = onFlow
    req.on('data', this.#onData)
    req.on('end', this.#onEnd)
    req.pause()
  }

  override _read(): void {
    this.#hold(false)
    if (this.#budget.isSpent) this.#budget.hold(this)
    else this.#req.resume()
  }

  goOn(): void {
    if (!this.destroyed && !this.#held) this.#req.resume()
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    const req = this.#req
    this.#hold(false)
    req.off('data', this.#onData)
    req.off('end', this.#onEnd)
    req.pause()
    callback(error)
  }

  readonly #onData = (chunk: Buffer): void => {
    this.received += chunk.length
    this.#budget.spend(chunk.length)
    const isWanted = this.push(chunk)
    if (isWanted && !this.#budget.isSpent) return
    this.#req.pause()
    if (isWanted) this.#budget.hold(this)
    else this.#hold(true)
  }

  readonly #onEnd = (): void => {
    this.#onFlow('ended')
    this.push(null)
  }

  #hold(held: boolean): void {
    if (held === this.#held) return
    this.#held = held
    this.#onFlow(held ? 'held' : 'flowing')
  }
}

/** Whether a body comes as the client sends it, waits for the worker, or has come to its end. */
export type BodyFlow = 'flowing' | 'held' | 'ended'

/** Whether a request has a body (RFC 9112 §6.3, RFC 9113 §8.1). */
export function hasBody(req: IncomingMessage): boolean {
  const http2 = http2Request(req)
  if (http2 !== undefined) return !http2.stream.endAfterHeaders
  const { headers } = req
  if (headers['transfer-encoding'] !== undefined) return true
  const length = headers['content-length']
  return length !== undefined && Number(length) > 0
}

/** @throws `INTERNAL_ERROR` when something in front of a mounted gateway has read of the body: the worker would get another one. */
export function assertUnread(req: IncomingMessage): void {
  if (!hasBody(req) || !req.readableDidRead) return
  throw new Refusal('INTERNAL_ERROR', {
    cause: new Error('The body of a request was read before the gateway got it: nothing in front may do that'),
  })
}

/**
 * The whole body, when all of it is here already, as it is for small requests by the time that their session is known.
 * A buffer saves a stream, and the head and body go out in one write. Chunks stay chunks, whenever the last of them comes.
 */
export function bufferedBody(req: IncomingMessage): Buffer | undefined {
  if (req.readableLength > maxBuffered || req.headers['transfer-encoding'] !== undefined) return undefined
  // Node tells of the last byte before it tells that it was the last.
  if (!req.complete && req.readableLength !== Number(req.headers['content-length'])) return undefined
  return (req.read() as Buffer | null) ?? Buffer.alloc(0)
}

const maxBuffered = 64 * 1024

/**
 * Reads and drops what is left of a request's body, so that the connection can carry the next request. A client that
 * has much more to send, or takes long, loses the connection instead, behind the response; one of HTTP/2 is told to stop.
 */
export function discard(req: IncomingMessage, res: ServerResponse): void {
  let left = maxDiscarded
  if (req.readableEnded || req.destroyed || http2Request(req)?.stream.endAfterHeaders === true) return
  const giveUp = http2Request(req) === undefined ? lingerWithin(req, res) : () => stopUpload(req)
  const timer = setTimeout(giveUp, discardTimeout).unref()
  req.on('data', (chunk: Buffer) => {
    left -= chunk.length
    if (left < 0) giveUp()
  })
  req.once('close', () => clearTimeout(timer))
  req.resume()
}

const maxDiscarded = 1024 * 1024
const discardTimeout = 30_000
