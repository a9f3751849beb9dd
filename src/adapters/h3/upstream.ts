import type { Socket } from 'node:net'
import { Client, buildConnector } from 'undici'
import type { Lease, Session, WorkerAddress } from '../../index.ts'
import { Ending } from './ending.ts'
import { connectReused } from './intake.ts'
import { Refusal } from './problem.ts'

export interface UpstreamOptions {
  readonly connectTimeout: number
  readonly sendTimeout: number
  readonly headersTimeout: number
  readonly bodyTimeout: number
}

/** Something on a session that must be cut when the session is over. */
export interface Severable {
  sever(reason: unknown): void
}

/** The gateway's connections to the worker of one session. They end with the session. */
export class Upstream {
  readonly session: Session
  readonly address: WorkerAddress
  /** The worker's host and port, as `Host` names them. */
  readonly host: string
  /** Upgraded connections, and those that are about to be. */
  readonly tunnels = new Set<Severable>()
  /** Requests and WebSockets that are under way. */
  load = 0
  readonly #options: UpstreamOptions
  readonly #lanes = new Set<Lane>()
  readonly #onOver = new Set<() => void>()
  /** Lanes without a request, the latest used last: it is the least likely to be closed by the worker. */
  readonly #idle: Lane[] = []
  #over: Error | undefined

  constructor(session: Session, options: UpstreamOptions) {
    this.session = session
    this.address = session.worker.address
    this.host = hostOf(this.address)
    this.#options = options
  }

  /**
   * A lane for one request, a used one when there is any. Give it back when the response is complete, else drop it.
   *
   * @param maxIdle longest time without a request, in milliseconds, of a used one; `0` for a fresh one.
   * @throws the reason why the session is over.
   */
  take(maxIdle: number): Lane {
    if (this.#over !== undefined) throw this.#over
    const idle = this.#idle.at(-1)
    if (idle !== undefined && performance.now() - idle.idleSince < maxIdle) {
      this.#idle.pop()
      idle.busy = true
      return idle
    }
    const lane = new Lane(this, this.#options)
    this.#lanes.add(lane)
    lane.client.on('disconnect', () => {
      // A lane whose keep-alive connection has ended is worth nothing.
      if (!lane.busy) this.drop(lane)
    })
    return lane
  }

  leave(): void {
    this.load--
  }

  give(lane: Lane): void {
    lane.busy = false
    lane.used = true
    lane.resume = undefined
    lane.idleSince = performance.now()
    if (this.#lanes.has(lane)) this.#idle.push(lane)
  }

  /** Cuts a lane off, and whatever is under way on it. */
  drop(lane: Lane): void {
    if (!this.#lanes.delete(lane)) return
    const at = this.#idle.indexOf(lane)
    if (at !== -1) this.#idle.splice(at, 1)
    lane.client.destroy().catch(() => {})
  }

  /** Opens a plain connection to the worker. */
  open(): Socket {
    const address = this.address
    const target = 'socketPath' in address ? { path: address.socketPath } : address
    return connectReused({ ...target, allowHalfOpen: true, noDelay: true })
  }

  /**
   * Whether the worker lives: its session is not over, and a fresh connection to its address stands. Resolves within a second.
   *
   * A process that dies closes its sockets one after the other, so what it listens on may outlive a connection of its by a
   * moment. What the kernel accepts in that moment is reset with it. A connection that is closed politely was accepted by a
   * process that lived.
   */
  async isAlive(): Promise<boolean> {
    if (this.session.signal.aborted) return false
    const socket = this.open()
    const stands = await new Promise<boolean>((resolve) => {
      socket.setTimeout(aliveTimeout, () => resolve(false))
      socket.once('error', () => resolve(false))
      socket.once('end', () => resolve(true))
      socket.once('connect', () => {
        // Of a timer that is late, the reset that came in the meantime is heard of only after it.
        setTimeout(() => setImmediate(resolve, true), dyingTime)
      })
      socket.resume()
    })
    socket.destroy()
    return stands && !this.session.signal.aborted
  }

  /**
   * Resolves when the session is over, or after `timeout` milliseconds. Not by a listener on its signal for each: of those, Node
   * warns when there are more than ten.
   */
  over(timeout: number): Promise<void> {
    return new Promise((resolve) => {
      const settle = () => {
        clearTimeout(timer)
        this.#onOver.delete(settle)
        resolve()
      }
      const timer = setTimeout(settle, timeout)
      this.#onOver.add(settle)
    })
  }

  destroy(reason: unknown): void {
    const error = reason instanceof Error ? reason : new Error('The session is over', { cause: reason })
    this.#over = error
    for (const lane of this.#lanes) lane.client.destroy(error).catch(() => {})
    this.#lanes.clear()
    this.#idle.length = 0
    for (const tunnel of this.tunnels) tunnel.sever(error)
    for (const settle of this.#onOver) settle()
  }
}

/**
 * One keep-alive connection to a worker, that takes one request at a time. undici's own pool of them would be more work per
 * request, does not tell which connection a request is on, and opens a new one for every request that is given up.
 */
export class Lane {
  readonly client: Client
  /** Whether a request is on it. */
  busy = true
  /** Whether it has carried a request before: then the worker may have closed it in the meantime. */
  used = false
  /** When its latest request was over, by the monotonic clock. */
  idleSince = 0
  /** Has undici parse on where it was held back within a response. */
  resume: (() => void) | undefined
  readonly #sendTimeout: number
  #socket: Socket | undefined
  #ending: Ending | undefined

  constructor(upstream: Upstream, options: UpstreamOptions) {
    const { address, host } = upstream
    const { connectTimeout: timeout, headersTimeout, bodyTimeout } = options
    this.#sendTimeout = options.sendTimeout
    const connect = buildConnector({ timeout, ...('socketPath' in address && { socketPath: address.socketPath }) })
    this.client = new Client(`http://${host}`, {
      connect: (target, callback) => {
        connect(target, (...result) => {
          const socket = result[1]
          if (socket) this.#watch(socket, 'socketPath' in address)
          callback(...result)
        })
      },
      headersTimeout,
      bodyTimeout,
    })
  }

  /** Whether there has been a connection: without one nothing was sent. */
  get connected(): boolean {
    return this.#socket !== undefined
  }

  /** Whether bytes of the request wait for the worker: then its connection must move within the limit. */
  limitStall(waiting: boolean): void {
    this.#socket?.setTimeout(waiting ? this.#sendTimeout : 0)
  }

  /** What its connection was reset with: a response that ends with it may be cut. */
  get reset(): Error | undefined {
    return this.#ending?.reset
  }

  #watch(socket: Socket, isLocal: boolean): void {
    this.#socket = socket
    this.#ending = new Ending(socket, isLocal)
    // Comes before undici's own listener, which throws at the end of a connection whose parser is held back, until version 8
    // (nodejs/undici#5360); nothing is left that could pile up by then.
    socket.on('end', () => this.resume?.())
    socket.on('timeout', () => socket.destroy(stalled()))
  }
}

/** What ends an exchange or a tunnel whose worker takes no more of what the client sends. */
export function stalled(): Refusal {
  return new Refusal('UPSTREAM_TIMEOUT', {
    cause: new Error('The worker stopped reading, with bytes of the client waiting'),
  })
}

/**
 * What ends an exchange or a tunnel whose client takes no more of what the worker sends, or sends no more of what it began.
 */
export function clientStalled(): Refusal {
  return new Refusal('CLIENT_TIMEOUT')
}

const aliveTimeout = 1_000

/** Longest time for a process to close all of its sockets: seen were 2 ms at rest, and 15 with three others for each processor. */
const dyingTime = 50

/** The upstreams of the sessions that the gateway has leases on, or had. One listener per session, none per request. */
export class Upstreams {
  readonly #live = new Map<string, Upstream>()
  /** How many requests and WebSockets wait for the worker of a session, by its id. */
  readonly #waiting = new Map<string, number>()
  readonly #options: UpstreamOptions
  readonly #limit: number

  /** @param limit how many requests and WebSockets one session may have under way. */
  constructor(options: UpstreamOptions, limit: number) {
    this.#options = options
    this.#limit = limit
  }

  /**
   * The upstream of a lease's session, for one more request or WebSocket: {@link Upstream.leave} it in the end.
   *
   * @throws `SESSION_BUSY`
   */
  enter(lease: Lease): Upstream {
    const upstream = this.#of(lease)
    if (upstream.load >= this.#limit) throw new Refusal('SESSION_BUSY')
    upstream.load++
    return upstream
  }

  /**
   * Has one more request or WebSocket of a session wait for its worker, among no more than may be under way then.
   *
   * @throws `SESSION_BUSY`, and whatever `acquire` rejects with.
   */
  async wait(sessionId: string, acquire: () => Promise<Lease>): Promise<Lease> {
    const others = this.#waiting.get(sessionId) ?? 0
    if (others >= this.#limit) throw new Refusal('SESSION_BUSY')
    this.#waiting.set(sessionId, others + 1)
    try {
      return await acquire()
    } finally {
      const waiting = this.#waiting.get(sessionId) as number
      if (waiting === 1) this.#waiting.delete(sessionId)
      else this.#waiting.set(sessionId, waiting - 1)
    }
  }

  #of(lease: Lease): Upstream {
    const { session } = lease
    const known = this.#live.get(session.id)
    if (known !== undefined) {
      if (known.session === session) return known
      this.#drop(known, undefined)
    }
    const upstream = new Upstream(session, this.#options)
    this.#live.set(session.id, upstream)
    const { signal } = session
    if (signal.aborted) this.#drop(upstream, signal.reason)
    else signal.addEventListener('abort', () => this.#drop(upstream, signal.reason), { once: true })
    return upstream
  }

  destroy(reason: unknown): void {
    for (const upstream of this.#live.values()) this.#drop(upstream, reason)
  }

  #drop(upstream: Upstream, reason: unknown): void {
    const { id } = upstream.session
    if (this.#live.get(id) === upstream) this.#live.delete(id)
    upstream.destroy(reason)
  }
}

/** Host and port; `localhost` for a unix socket, where HTTP wants a host all the same. */
function hostOf(address: WorkerAddress): string {
  if ('socketPath' in address) return 'localhost'
  const { host, port } = address
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}
