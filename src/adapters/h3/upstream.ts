import type { Socket } from 'node:net'
import { connect as connectSocket } from 'node:net'
import { Pool as Dispatcher, buildConnector } from 'undici'
import type { Lease, Session, WorkerAddress } from '../../index.ts'

export interface UpstreamOptions {
  readonly connectTimeout: number
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
  /** Keep-alive connections for plain requests. Destroyed with the session, which fails everything in flight. */
  readonly dispatcher: Dispatcher
  /** Upgraded connections. */
  readonly tunnels = new Set<Severable>()
  /**
   * Whether a connection is being reset right now. For undici a reset ends a close-delimited response as a proper close
   * does; the exchange looks here to tell the two apart.
   */
  resetting = false

  constructor(session: Session, options: UpstreamOptions) {
    this.session = session
    this.address = session.worker.address
    this.host = hostOf(this.address)
    const { connectTimeout: timeout, headersTimeout, bodyTimeout } = options
    const socketPath = 'socketPath' in this.address ? this.address.socketPath : undefined
    const connect = buildConnector({ timeout, ...(socketPath === undefined ? {} : { socketPath }) })
    this.dispatcher = new Dispatcher(`http://${this.host}`, {
      connect: (target, callback) => {
        connect(target, (...result) => {
          // Before undici's own listener, which ends the response in the same turn.
          result[1]?.on('error', () => this.#reset())
          callback(...result)
        })
      },
      headersTimeout,
      bodyTimeout,
    })
  }

  /** Opens a plain connection to the worker. */
  open(): Socket {
    const address = this.address
    const target = 'socketPath' in address ? { path: address.socketPath } : address
    return connectSocket({ ...target, allowHalfOpen: true, noDelay: true })
  }

  /**
   * Whether the worker lives: its session is not over and something accepts connections at its address. Resolves within
   * a second.
   */
  async isAlive(): Promise<boolean> {
    if (this.session.signal.aborted) return false
    const socket = this.open()
    const accepted = await new Promise<boolean>((resolve) => {
      socket.setTimeout(aliveTimeout, () => resolve(false))
      socket.once('connect', () => resolve(true))
      socket.once('error', () => resolve(false))
    })
    socket.destroy()
    return accepted && !this.session.signal.aborted
  }

  destroy(reason: unknown): void {
    const error = reason instanceof Error ? reason : new Error('The session is over', { cause: reason })
    this.dispatcher.destroy(error).catch(() => {})
    for (const tunnel of this.tunnels) tunnel.sever(error)
  }

  #reset(): void {
    this.resetting = true
    queueMicrotask(() => {
      this.resetting = false
    })
  }
}

const aliveTimeout = 1_000

/** The upstreams of the sessions that the gateway has leases on, or had. One listener per session, none per request. */
export class Upstreams {
  readonly #live = new Map<string, Upstream>()
  readonly #options: UpstreamOptions

  constructor(options: UpstreamOptions) {
    this.#options = options
  }

  /** Whether the session `id` was live when last heard of: then an acquire settles at once. */
  has(id: string): boolean {
    return this.#live.has(id)
  }

  of(lease: Lease): Upstream {
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
