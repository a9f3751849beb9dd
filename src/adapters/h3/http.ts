import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Dispatcher } from 'undici'
import type { Lease } from '../../index.ts'
import type { Sender } from '../clients/send-limit.ts'
import type { Flow } from '../clients/turn-budget.ts'
import { RequestBody, assertUnread, bufferedBody, discard, hasBody } from './body.ts'
import { BodyWatch } from './body-watch.ts'
import type { Core } from './core.ts'
import { http2Request, sentByAll } from './http2.ts'
import { latin1, nameWorker, requestHeaders, responseHead, responseTrailers } from './headers.ts'
import type { Forward } from './forward.ts'
import { InformationLimit, relayInformation } from './information.ts'
import type { Observation } from './observe.ts'
import { observationOf, replacements } from './observe.ts'
import { toRefusal } from './problem.ts'
import { isConnectionLoss, isIdempotent, maxIdleOnce } from './repeat.ts'
import { addTrailers, cutResponse, refuse, writeHead } from './response.ts'
import { rewriteLocation } from './target.ts'
import type { Lane, Upstream } from './upstream.ts'
import { clientStalled } from './upstream.ts'
import { judge } from './verdict.ts'

type Phase =
  /** Waits for a lease. */
  | 'acquiring'
  /** Sent to the worker; the client has got nothing yet. */
  | 'requested'
  /** The head has gone to the client. */
  | 'streaming'
  /** A close-delimited body has ended; the worker is asked whether it still lives. */
  | 'verifying'
  /** All of the response, or a problem, is handed to the client's connection. */
  | 'ended'
  /** The client's response is over, sent or not. The lease is released. */
  | 'closed'

/** Size of a body that is copied to be sent with its head. */
const maxInline = 16 * 1024

const kExchange = Symbol('corral.exchange')

type Response = ServerResponse & { [kExchange]?: Exchange }

/** Forwards a request and answers it. Whatever becomes of it, the response is ended or destroyed and the lease released. */
export function forward(core: Core, req: IncomingMessage, res: ServerResponse, request: Forward): void {
  core.underway.requests++
  const exchange = new Exchange(core, req, res, request)
  ;(res as Response)[kExchange] = exchange
  res.on('close', onClose)
  // The rest of its request may still come.
  http2Request(req)?.stream.once('finish', () => exchange.finished())
  void exchange.run()
}

/**
 * One request, and undici's handler for it. It is its raw, older kind of handler: that one gets header fields as bytes, in
 * the worker's order, spelling and number, and allocates nothing in between.
 */
class Exchange implements Dispatcher.DispatchHandler, Sender, Flow {
  readonly #core: Core
  readonly #req: IncomingMessage
  readonly #res: ServerResponse
  readonly #request: Forward
  readonly #seen: Observation | undefined
  #phase: Phase = 'acquiring'
  #lease: Lease | undefined
  #upstream: Upstream | undefined
  #waiting: AbortController | undefined
  #content: Buffer | RequestBody | null = null
  #body: RequestBody | undefined
  #headers: string[] = []
  #lane: Lane | undefined
  #resume: (() => void) | undefined
  #length = -1
  #closeDelimited = false
  /** Whether the worker has sent a byte of a response. */
  #answered = false
  #information: InformationLimit | undefined
  #retried = false
  #listensToDrain = false
  #wrote = false

  constructor(core: Core, req: IncomingMessage, res: ServerResponse, request: Forward) {
    this.#core = core
    this.#req = req
    this.#res = res
    this.#request = request
    this.#seen = observationOf(req)
    this.#seen?.identified(request)
  }

  async run(): Promise<void> {
    const { pool, upstreams, settings } = this.#core
    const { sessionId } = this.#request
    try {
      if (this.#content === null) assertUnread(this.#req)
      this.#headers = requestHeaders(
        this.#req,
        settings,
        this.#request,
        replacements(settings, this.#request, this.#seen),
      )
      const lease = pool.tryAcquire(sessionId) ?? (await this.#wait())
      if (this.#is('closed')) {
        this.#request.release(lease, pool)
        return
      }
      this.#lease = lease
      this.#seen?.leased(lease)
      // A small body comes in one piece with the head, and has been parsed by the next microtask.
      if (hasBody(this.#req)) await Promise.resolve()
      if (this.#is('closed')) return
      this.#upstream = upstreams.enter(lease)
      nameWorker(this.#headers, this.#upstream.host)
      if (this.#request.mustContinue) this.#res.writeContinue()
      this.#phase = 'requested'
      if (hasBody(this.#req)) this.#content ??= this.#buffered() ?? this.#stream()
      this.#dispatch()
    } catch (error) {
      if (this.#is('requested')) await this.#failed(error)
      else this.#refuse(error)
    }
  }

  /** A lease that the client's leaving gives up waiting for. */
  async #wait(): Promise<Lease> {
    this.#waiting = new AbortController()
    const lease = await this.#request.wait(this.#core, this.#req, this.#waiting.signal)
    this.#waiting = undefined
    return lease
  }

  /** The client's response is over: sent in full, or the client has left. */
  closed(): void {
    const phase = this.#phase
    if (phase === 'closed') return
    this.#phase = 'closed'
    this.#core.underway.requests--
    if (this.#seen !== undefined && this.#body !== undefined) this.#seen.bytesIn = this.#body.received
    this.#waiting?.abort()
    this.#core.sendLimit.delete(this)
    this.#dropLane()
    this.#body?.destroy()
    this.#upstream?.leave()
    if (this.#lease !== undefined) this.#request.release(this.#lease, this.#core.pool)
  }

  /** All of a response by HTTP/2 has gone out, or is given up. */
  finished(): void {
    if (this.#is('ended') && http2Request(this.#req)?.stream.aborted === false) this.#seen?.answered()
    this.closed()
  }

  drained(): void {
    this.#core.sendLimit.delete(this)
    if (this.#core.turnBudget.isSpent) this.#core.turnBudget.hold(this)
    else this.#resume?.()
  }

  goOn(): void {
    if (this.#is('streaming')) this.#resume?.()
  }

  /** What undici wants to be told to abort with; dropping the lane does it better. */
  onConnect(): void {}

  onResponseStarted(): void {
    this.#answered = true
  }

  onBodySent(): void {
    this.#lease?.touch()
  }

  onHeaders(status: number, raw: Buffer[], resume: () => void, reason: string): boolean {
    const req = this.#req
    const res = this.#res
    if (status < 200) {
      ;(this.#information ??= new InformationLimit()).add(raw)
      relayInformation(req, res, status, raw, this.#request.idField)
      return true
    }
    const hasContent = req.method !== 'HEAD' && status !== 204 && status !== 304
    const chunked = hasContent && req.httpVersionMajor === 1 && req.httpVersionMinor === 1
    const head = responseHead(raw, status, chunked, (location) =>
      rewriteLocation(location, (this.#upstream as Upstream).host, this.#request.prefix),
    )
    this.#request.answered(status, head.headers, this.#lease as Lease)
    this.#resume = resume
    if (this.#lane !== undefined) this.#lane.resume = resume
    this.#length = head.length
    this.#closeDelimited = hasContent && head.closeDelimited
    writeHead(req, res, status, reason, head.headers)
    this.#phase = 'streaming'
    if (this.#seen !== undefined) this.#seen.status = status
    // The head waits for what undici has parsed already, to go out with it, and no longer: an event stream may be
    // silent for minutes after its head.
    if (hasContent) process.nextTick(flush, this)
    // RFC 9110 §8.6: a 304 may tell the length of what it does not bring. undici takes that for a response cut short.
    else this.#end()
    return true
  }

  onData(chunk: Buffer): boolean {
    // Of where it was held back, undici begins with the nothing that is left of the chunk.
    if (chunk.length === 0) return true
    this.#lease?.touch()
    this.#wrote = true
    if (this.#seen !== undefined) this.#seen.bytesOut += chunk.length
    const res = this.#res
    // All of the body in one piece: one write, together with the head.
    if (chunk.length === this.#length) {
      this.#end(chunk)
      return true
    }
    this.#core.turnBudget.spend(chunk.length)
    if (res.write(chunk)) {
      if (!this.#core.turnBudget.isSpent) return true
      this.#core.turnBudget.hold(this)
      return false
    }
    this.#core.sendLimit.add(this)
    if (!this.#listensToDrain) {
      this.#listensToDrain = true
      res.on('drain', onDrain)
    }
    return false
  }

  onComplete(trailers: (Buffer | string)[] | null): void {
    const lane = this.#lane
    if (lane === undefined) return
    this.#lane = undefined
    this.#upstream?.give(lane)
    if (!this.#is('streaming')) return
    if (this.#closeDelimited) {
      if (lane.reset === undefined) void this.#verify()
      else this.#cut(lane.reset)
      return
    }
    if (trailers !== null && trailers.length > 0) {
      addTrailers(this.#req, this.#res, responseTrailers(trailers, this.#request.idField))
    }
    this.#end()
  }

  onError(error: Error): void {
    this.#resume = undefined
    if (this.#is('requested')) void this.#failed(error)
    else if (this.#is('streaming')) this.#cut(error)
  }

  flush(): void {
    if (!this.#wrote && this.#is('streaming')) this.#res.flushHeaders()
  }

  /** The client sends no more of its body, or takes no more of its response. */
  onClientStalled(): void {
    if (this.#is('closed')) return
    if (!this.#is('requested')) {
      this.#cut(clientStalled())
      return
    }
    // RFC 9110 §15.5.9
    this.#res.shouldKeepAlive = false
    this.#dropLane()
    this.#refuse(clientStalled())
  }

  get unsent(): number {
    return this.#res.writableLength
  }

  get sentByAll(): number | undefined {
    return sentByAll(this.#req)
  }

  #dispatch(): void {
    const maxIdle = this.#isRepeatable() ? Number.POSITIVE_INFINITY : maxIdleOnce
    this.#lane = (this.#upstream as Upstream).take(this.#retried ? 0 : maxIdle)
    this.#lane.client.dispatch(
      {
        path: this.#request.target,
        method: this.#req.method as Dispatcher.HttpMethod,
        headers: this.#headers,
        body: this.#content,
      },
      this,
    )
  }

  /** RFC 9110 §9.2.2; of a streamed body the beginning is gone. */
  #isRepeatable(): boolean {
    return isIdempotent(this.#req) && this.#body === undefined
  }

  #buffered(): Buffer | undefined {
    const body = bufferedBody(this.#req)
    if (body !== undefined && this.#seen !== undefined) this.#seen.bytesIn = body.length
    return body
  }

  #stream(): RequestBody {
    const watch = new BodyWatch(this.#res, {
      bodyTimeout: this.#core.settings.client.bodyTimeout,
      onTimeout: () => {
        // Of a body that nobody wants any more the rest is dropped, within limits of its own.
        if (!this.#is('ended')) this.onClientStalled()
      },
    })
    this.#body = new RequestBody(this.#req, this.#core.turnBudget, (flow) => {
      this.#lane?.limitStall(flow === 'held')
      watch.expect(flow === 'flowing')
    })
    watch.expect(true)
    return this.#body
  }

  /**
   * The request failed before a response. When the worker has not answered with a single byte, it may have closed a
   * keep-alive connection just as the request was on its way: RFC 9110 §9.2.2 lets a proxy repeat idempotent requests.
   */
  async #failed(error: unknown): Promise<void> {
    const upstream = this.#upstream as Upstream
    const stale = this.#lane?.used === true && !this.#answered && isConnectionLoss(error)
    const isUntouched = this.#lane?.connected !== true && !this.#retried && !(this.#content instanceof RequestBody)
    this.#dropLane()
    if (stale && !this.#retried && this.#isRepeatable() && !upstream.session.signal.aborted) {
      this.#retried = true
      this.#dispatch()
      return
    }
    const refusal = await judge(error, upstream)
    if (!this.#is('requested')) return
    if (refusal.code === 'SESSION_LOST' && isUntouched) this.#startOver()
    else this.#refuse(refusal)
  }

  /**
   * The worker was dead before it got anything of the request, and the pool had not heard of it. A moment later the request
   * would have got a new session: so it does.
   */
  #startOver(): void {
    this.#retried = true
    this.#upstream?.leave()
    this.#upstream = undefined
    if (this.#lease !== undefined) this.#request.release(this.#lease, this.#core.pool)
    this.#lease = undefined
    this.#phase = 'acquiring'
    void this.run()
  }

  /**
   * A body that ends with its connection looks the same whether the worker finished or died: the worker must be alive for
   * it to count as finished.
   */
  async #verify(): Promise<void> {
    const upstream = this.#upstream as Upstream
    this.#phase = 'verifying'
    const alive = await upstream.isAlive()
    if (!this.#is('verifying')) return
    if (alive) this.#end()
    else this.#cut(upstream.session.signal.reason ?? new Error('The worker died within a response'))
  }

  #end(chunk?: Buffer): void {
    if (this.#is('closed')) return
    this.#phase = 'ended'
    if (this.#seen !== undefined) this.#res.once('finish', () => this.#seen?.answered())
    // As a string the bytes go out in one piece with the head, which is a third of the work of two pieces.
    if (chunk !== undefined && chunk.length <= maxInline) this.#res.end(latin1(chunk), 'latin1')
    else this.#res.end(chunk)
    if (this.unsent > 0) this.#core.sendLimit.add(this)
    // The worker answered without reading all of the request.
    if (!this.#req.complete) {
      this.#body?.destroy()
      discard(this.#req, this.#res)
    }
  }

  /** Answers with a problem; only while the client has got nothing yet. */
  #refuse(error: unknown): void {
    if (this.#is('closed')) return
    this.#phase = 'ended'
    this.#body?.destroy()
    refuse(this.#core, this.#req, this.#res, error, this.#request.sessionId)
  }

  /** Cuts the connection: the client must not take what it has for a whole response. */
  #cut(cause: unknown): void {
    if (this.#is('closed')) return
    this.#phase = 'ended'
    this.#seen?.cut()
    this.#dropLane()
    void this.#reportCut(cause)
    // A body that is delimited by the close would look complete.
    const isDelimited = this.#res.chunkedEncoding || this.#length !== -1
    cutResponse(this.#res, isDelimited && toRefusal(cause).code !== 'CLIENT_TIMEOUT' ? 'end' : 'reset')
  }

  async #reportCut(cause: unknown): Promise<void> {
    const refusal = await judge(cause, this.#upstream as Upstream)
    this.#core.report(this.#req, refusal, { sessionId: this.#request.sessionId, cut: true })
  }

  #dropLane(): void {
    const lane = this.#lane
    this.#lane = undefined
    if (lane !== undefined) this.#upstream?.drop(lane)
  }

  /** A method, for the phase changes in callbacks where the compiler cannot see it. */
  #is(phase: Phase): boolean {
    return this.#phase === phase
  }
}

function onClose(this: Response): void {
  this[kExchange]?.closed()
}

function onDrain(this: Response): void {
  this[kExchange]?.drained()
}

function flush(exchange: Exchange): void {
  exchange.flush()
}
