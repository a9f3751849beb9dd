import { request } from 'node:http'
import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { errors } from 'undici'
import type { Lease } from '../../index.ts'
import { isReset } from '../clients/reset.ts'
import type { Core } from './core.ts'
import { assertCoding, expectsUnknown, maxCollected, nameWorker, requestHeaders, responseHead } from './headers.ts'
import type { Forward } from './forward.ts'
import { limitInformation } from './information.ts'
import type { Observation } from './observe.ts'
import { observationOf, replacements } from './observe.ts'
import { Refusal } from './problem.ts'
import { isReasonPhrase, limitSending, senderOf, writeHead } from './response.ts'
import { relayRefusal } from './refused-upgrade.ts'
import { rewriteLocation } from './target.ts'
import { Tunnel } from './tunnel.ts'
import type { UpgradeClient } from './upgrade-client.ts'
import type { Upstream } from './upstream.ts'
import { judge } from './verdict.ts'

/**
 * Takes a WebSocket handshake to the worker and, when the worker accepts, joins the two connections. A refusal, the worker's
 * or the gateway's, is an HTTP response.
 *
 * @returns a promise that resolves once the upgrade is decided. It never rejects.
 */
export function forwardUpgrade(core: Core, client: UpgradeClient, forward: Forward): Promise<void> {
  return new Upgrade(core, client, forward).run()
}

/** Base64 of 16 bytes (RFC 6455 §4.1), once: Node joins several with commas. */
const handshakeKey = /^[\d+/A-Za-z]{21}[AQgw]==$/

/**
 * @throws `UPGRADE_INVALID` unless the request is a WebSocket handshake (RFC 6455 §4.2.1); the rest is the worker's
 * business.
 */
export function assertHandshake(req: IncomingMessage): void {
  const { headers } = req
  // The fields that make it one may be among those that are left out: newer versions of Node do not call such a request an upgrade.
  if (req.rawHeaders.length >= maxCollected) throw new Refusal('HEADERS_TOO_LARGE')
  if (
    req.method !== 'GET' ||
    headers.upgrade?.trim().toLowerCase() !== 'websocket' ||
    // What a handshake of another version looks like, only the worker can tell (RFC 6455 §4.4).
    ((headers['sec-websocket-version'] ?? '13') === '13' && !handshakeKey.test(headers['sec-websocket-key'] ?? '')) ||
    headers['transfer-encoding'] !== undefined ||
    (headers['content-length'] ?? '0') !== '0'
  ) {
    throw new Refusal('UPGRADE_INVALID')
  }
  if (expectsUnknown(req)) throw new Refusal('EXPECTATION_UNSUPPORTED')
}

type Phase =
  /** Waits for a lease. */
  | 'acquiring'
  /** The handshake is on its way to the worker. */
  | 'handshaking'
  /** The client has been answered: with a tunnel, or with a refusal. */
  | 'answered'
  /** The client has got its response, or its connection is gone. The lease is released. */
  | 'closed'

class Upgrade {
  readonly #core: Core
  readonly #client: UpgradeClient
  readonly #request: Forward
  readonly #seen: Observation | undefined
  readonly #waiting = new AbortController()
  #phase: Phase = 'acquiring'
  #lease: Lease | undefined
  #upstream: Upstream | undefined
  #handshake: ClientRequest | undefined
  /** Whether there has been a connection to the worker: without one nothing was sent. */
  #isConnected = false
  #startedOver = false
  /** Whether the worker's connection was reset. */
  #isReset = false
  /** What the worker's answer to the handshake was given up for. */
  #fault: Error | undefined
  /** What had passed on the client's connection when the two were joined; only for whoever wants to know. */
  #joinedAt: { readonly read: number; readonly written: number } | undefined

  constructor(core: Core, client: UpgradeClient, forward: Forward) {
    this.#core = core
    this.#client = client
    this.#request = forward
    this.#seen = observationOf(client.req)
    this.#seen?.identified(forward)
  }

  async run(): Promise<void> {
    if (this.#client.gone) return
    this.#core.underway.webSockets++
    this.#client.whenOver(() => this.#closed())
    await this.#attempt()
  }

  async #attempt(): Promise<void> {
    try {
      const { pool, upstreams, settings } = this.#core
      const headers = requestHeaders(
        this.#client.req,
        settings,
        this.#request,
        replacements(settings, this.#request, this.#seen),
      )
      const { signal } = this.#waiting
      const lease =
        pool.tryAcquire(this.#request.sessionId) ?? (await this.#request.wait(this.#core, this.#client.req, signal))
      if (this.#is('closed')) {
        this.#request.release(lease, pool)
        return
      }
      this.#lease = lease
      this.#seen?.leased(lease)
      this.#upstream = upstreams.enter(lease)
      nameWorker(headers, this.#upstream.host)
      headers.push('Connection', 'Upgrade', 'Upgrade', this.#client.req.headers.upgrade ?? 'websocket')
      this.#phase = 'handshaking'
      await this.#shake(headers)
    } catch (error) {
      const refusal = this.#upstream === undefined ? error : await judge(error, this.#upstream)
      if (this.#is('closed') || this.#is('answered')) return
      const isLost = refusal instanceof Refusal && refusal.code === 'SESSION_LOST'
      if (isLost && !this.#isConnected && !this.#startedOver) {
        await this.#startOver()
        return
      }
      this.#phase = 'answered'
      this.#client.refuse(this.#core, refusal, this.#request.sessionId)
    }
  }

  /** As with requests: the worker was dead before it got the handshake. */
  async #startOver(): Promise<void> {
    this.#startedOver = true
    this.#upstream?.leave()
    this.#upstream = undefined
    if (this.#lease !== undefined) this.#request.release(this.#lease, this.#core.pool)
    this.#lease = undefined
    this.#phase = 'acquiring'
    await this.#attempt()
  }

  /** Sends the handshake to the worker; resolves when the worker has answered it, rejects when it has not. */
  #shake(headers: string[]): Promise<void> {
    const upstream = this.#upstream as Upstream
    const { connectTimeout, headersTimeout } = this.#core.settings.upstream
    return new Promise((resolve, reject) => {
      let settled = false
      const settle = (then: () => void) => {
        if (settled) return
        settled = true
        upstream.tunnels.delete(severable)
        clearTimeout(timer)
        then()
      }
      const fail = (error: unknown) =>
        settle(() => {
          reject(error)
          shake.destroy()
        })
      const severable = { sever: fail }
      const arm = (timeout: number) =>
        timeout === 0 ? undefined : setTimeout(() => fail(new errors.HeadersTimeoutError()), timeout)
      let timer = arm(connectTimeout)
      const heads: Buffer[] = []
      const hear = (chunk: Buffer) => void heads.push(chunk)
      // A WebSocket may last for days: nothing of its handshake is to stay.
      const hearOut = (worker: Socket) => {
        worker.off('data', hear)
        return heads.splice(0)
      }
      const shake = request({
        method: 'GET',
        path: this.#request.target,
        headers,
        setHost: false,
        createConnection: () => {
          const worker = upstream.open().once('connect', () => {
            this.#isConnected = true
            clearTimeout(timer)
            timer = arm(headersTimeout)
          })
          this.#watchReset(worker)
          worker.prependListener('data', hear)
          return worker
        },
      })
      // Node would leave out the rest without a word; their size is limited all the same.
      shake.maxHeadersCount = 0
      this.#handshake = shake
      upstream.tunnels.add(severable)
      limitInformation(shake, fail)
      // The next one may have begun in the last piece.
      shake.on('information', () => heads.splice(0, heads.length - 1))
      shake.on('continue', () => fail(new Error('The worker sent 100 Continue, which nobody had asked for')))
      shake.on('upgrade', (answer, worker: Socket, head) => {
        hearOut(worker)
        // Node parses on in what it has read, whatever has become of the request.
        if (settled) {
          worker.destroy()
          return
        }
        if (answer.headers.upgrade?.trim().toLowerCase() !== 'websocket') {
          fail(new Error(`The worker switched to another protocol: ${answer.headers.upgrade}`))
          worker.destroy()
          return
        }
        let acceptance: string
        try {
          acceptance = this.#acceptance(answer)
        } catch (error) {
          fail(error)
          worker.destroy()
          return
        }
        settle(resolve)
        this.#join(acceptance, worker, head)
      })
      shake.on('response', (answer) => {
        const heard = hearOut(answer.socket)
        if (settled) {
          answer.destroy()
          return
        }
        try {
          this.#relayRefusal(answer, heard)
          settle(resolve)
        } catch (error) {
          fail(error)
        }
      })
      shake.on('error', (error) => {
        // Of an answer that breaks off the rest says only that it does.
        this.#fault = error
        fail(error)
      })
      // Without an error when the client has left.
      shake.on('close', () => fail(new Error('The handshake was given up')))
      shake.end()
    })
  }

  #join(acceptance: string, worker: Socket, head: Buffer): void {
    worker.on('error', () => {})
    if (!this.#is('handshaking')) {
      worker.destroy()
      return
    }
    this.#phase = 'answered'
    const { socket } = this.#client
    const upstream = this.#upstream as Upstream
    const early = { client: this.#client.takeEarly(), worker: head }
    socket.cork()
    socket.write(acceptance, 'latin1')
    if (this.#seen !== undefined) {
      this.#seen.status = 101
      // What Node has read while too much was early comes behind that.
      const before = socket.bytesRead - lengthOf(early.client) - socket.readableLength
      this.#joinedAt = { read: before, written: socket.bytesWritten }
    }
    if (head.length > 0) socket.write(head)
    socket.uncork()
    for (const chunk of early.client) worker.write(chunk)
    const { upstream: timeouts, client: limits } = this.#core.settings
    const tunnel = new Tunnel(socket, worker, this.#lease as Lease, early, {
      workerTimeout: timeouts.sendTimeout,
      clientTimeout: limits.sendTimeout,
      budget: this.#core.turnBudget,
      onCut: (refusal) => this.#report(refusal),
    })
    const { heartbeat } = this.#core
    upstream.tunnels.add(tunnel)
    heartbeat.add(tunnel)
    socket.once('close', () => {
      upstream.tunnels.delete(tunnel)
      heartbeat.delete(tunnel)
    })
  }

  /** The head of the worker's answer, exactly, but for framing, which a 101 must not have (RFC 9110 §8.6, RFC 9112 §6.1). */
  #acceptance({ statusMessage: reason = '', rawHeaders: raw }: IncomingMessage): string {
    const headers: string[] = []
    for (let i = 0; i < raw.length; i += 2) {
      const name = raw[i] as string
      if (!/^(?:content-length|transfer-encoding)$/i.test(name)) headers.push(name, raw[i + 1] as string)
    }
    this.#request.answered(101, headers, this.#lease as Lease)
    let head = `HTTP/1.1 101 ${isReasonPhrase(reason) ? reason : 'Switching Protocols'}\r\n`
    for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`
    return `${head}\r\n`
  }

  /**
   * The worker does not upgrade: the client gets its answer as it is.
   *
   * @param heads what came of it, and before it.
   * @throws when it is no answer that could be passed on.
   */
  #relayRefusal(answer: IncomingMessage, heads: readonly Buffer[]): void {
    if (!this.#is('handshaking')) {
      answer.destroy()
      return
    }
    const { req } = this.#client
    const { host } = this.#upstream as Upstream
    const { statusCode: status = 0, statusMessage: reason = '' } = answer
    if (status === 101) throw new Error('The worker answered 101 without a "Connection: Upgrade" that could be read')
    if (status < 200) throw new Error(`The worker answered with status ${status}`)
    if (answer.headers['transfer-encoding'] !== undefined) assertCoding(heads)
    const head = responseHead(answer.rawHeaders, status, false, (location) =>
      rewriteLocation(location, host, this.#request.prefix),
    )
    this.#phase = 'answered'
    const res = this.#client.respond()
    this.#request.answered(status, head.headers, this.#lease as Lease)
    writeHead(req, res, status, reason, head.headers)
    if (this.#seen !== undefined) {
      const seen = this.#seen
      seen.status = status
      res.once('finish', () => seen.answered())
    }
    relayRefusal(this.#core, answer, res, {
      sender: senderOf(this.#core, req, res, this.#request.sessionId),
      onPiece: (bytes) => {
        this.#lease?.touch()
        if (this.#seen !== undefined) this.#seen.bytesOut += bytes
      },
      onEnd: () => void this.#finishRefusal(res, head.closeDelimited),
      onCut: (cause) => this.#cutRefusal(res, this.#faultOf(cause)),
    })
  }

  /** What Node has no word for but "aborted". */
  #faultOf(cause: unknown): unknown {
    if ((cause as NodeJS.ErrnoException).code !== 'ECONNRESET') return cause
    return this.#fault ?? new Error('The worker closed its connection within its answer', { cause })
  }

  /** To close a unix socket with bytes unread is a reset, too, and loses nothing. */
  #watchReset(worker: Socket): void {
    if ('socketPath' in (this.#upstream as Upstream).address) return
    worker.prependListener('end', () => (this.#isReset ||= isReset(worker)))
    worker.prependListener('error', ({ code }: NodeJS.ErrnoException) => (this.#isReset ||= code === 'ECONNRESET'))
  }

  async #finishRefusal(res: ServerResponse, closeDelimited: boolean): Promise<void> {
    if (closeDelimited && (this.#isReset || !(await (this.#upstream as Upstream).isAlive()))) {
      this.#cutRefusal(res, new Error('The worker died within a response, or reset its connection'))
      return
    }
    res.end()
    limitSending(this.#core, this.#client.req, res, this.#request.sessionId)
  }

  #cutRefusal(res: ServerResponse, cause: unknown): void {
    if (res.destroyed) return
    this.#seen?.cut()
    res.destroy()
    void judge(cause, this.#upstream as Upstream).then((refusal) => this.#report(refusal))
  }

  /** Tells of what is cut. */
  #report(refusal: Refusal): void {
    this.#core.report(this.#client.req, refusal, { sessionId: this.#request.sessionId, cut: true })
  }

  #closed(): void {
    this.#phase = 'closed'
    this.#core.underway.webSockets--
    if (this.#seen !== undefined && this.#joinedAt !== undefined) {
      const { bytesRead, bytesWritten } = this.#client.socket
      this.#seen.bytesIn = bytesRead - this.#joinedAt.read
      // Of a connection that was reset, what waited to be written is not counted any more, the answer to the handshake included.
      this.#seen.bytesOut = Math.max(0, bytesWritten - this.#joinedAt.written)
      this.#seen.answered()
    }
    this.#waiting.abort()
    this.#handshake?.destroy()
    this.#upstream?.leave()
    if (this.#lease !== undefined) this.#request.release(this.#lease, this.#core.pool)
  }

  /** A method, for the phase changes in callbacks where the compiler cannot see it. */
  #is(phase: Phase): boolean {
    return this.#phase === phase
  }
}

function lengthOf(chunks: readonly Buffer[]): number {
  return chunks.reduce((sum, { length }) => sum + length, 0)
}
