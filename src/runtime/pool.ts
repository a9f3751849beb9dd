import type { ActorRefFrom } from 'xstate'
import type { poolMachine } from '../machines/pool.ts'
import type { BackendStatus } from './backend.ts'
import type { PoolEvent, PoolEventType } from './events.ts'
import type { HostUsage } from './host/observer.ts'
import type { Lease } from './lease.ts'
import type { SessionInfo, WorkerDetails } from './listing.ts'

/** A pool of workers, one per session. Made by {@link createPool}. */
export interface Pool extends AsyncDisposable {
  /** The root of the actor system, to be watched: its workers are its children, a session is a child of its worker. */
  readonly actor: ActorRefFrom<typeof poolMachine>
  /**
   * Opens a connection on the session `id`: on its worker when the session is live, else on a worker that is bound to
   * the id as soon as one is free. Concurrent calls for one id share one worker.
   *
   * @returns a lease, to be released when the connection closes.
   * @throws `INVALID_OPTION`, `ACQUIRE_TIMEOUT`, `QUEUE_FULL`, `TENANT_LIMIT`, `HOST_PRESSURE`, `WORKER_START_FAILED`,
   * `WORKER_START_TIMEOUT` (starts keep failing), `POOL_DRAINING`, `POOL_CLOSED`; the signal's reason when `signal` aborts.
   */
  acquire(id: string, options?: AcquireOptions): Promise<Lease>
  /**
   * Opens a connection on the session `id` if it is live, at once and without waiting for anything: the fast path of
   * {@link Pool.acquire}.
   *
   * @returns `undefined` when there is no such session, or it is about to end.
   */
  tryAcquire(id: string): Lease | undefined
  /**
   * Ends the session `id`. With open connections it ends when the last of them closes, at the latest after
   * `session.grace`. An id that only waits for a worker is left alone.
   *
   * @returns whether there was a live session, once it has ended.
   * @throws `INVALID_OPTION` when the id is no text.
   */
  end(id: string): Promise<boolean>
  /** What the pool holds now. Synchronous, and made from counters. */
  stats(): PoolStats
  /** Every live session, oldest first. A snapshot that is made when it is asked for. */
  sessions(): SessionInfo[]
  /** Every worker that is not dead, in the order of their making. A snapshot that is made when it is asked for. */
  workers(): WorkerDetails[]
  /**
   * Takes one worker out of service: its session is ended, open connections get until the deadline, then the worker is
   * stopped. Another one is started for it where `size` or a waiting session demands it.
   *
   * @returns whether there was such a worker, once it is dead.
   * @throws `INVALID_OPTION`
   */
  drainWorker(id: string, options?: DrainOptions): Promise<boolean>
  /**
   * Stops taking new sessions and connections, lets sessions with open connections finish, ends all others, then stops every worker.
   * Waiting calls are refused with `POOL_DRAINING`. Settles like `close()`.
   */
  drain(options?: DrainOptions): Promise<void>
  /**
   * Ends every session now and stops every worker. Resolves once no process that the pool started is left, but for those
   * that SIGKILL did not end within 10 seconds: they are a warning, and in `stats().isolation.left`. May be
   * called at any time and more than once; also cuts a `drain` short, and with `force` an earlier `close`.
   */
  close(options?: CloseOptions): Promise<void>
  /**
   * Calls `listener` for every event of `type`, or of every type for `*`, after the pool has dealt with it. A listener
   * that throws does not disturb the pool: the error is reported as an uncaught exception.
   *
   * @returns a function that stops it.
   * @throws `INVALID_OPTION` when there is no such type.
   */
  on<T extends PoolEventType>(type: T, listener: (event: PoolEvent<T>) => void): () => void
  on(type: '*', listener: (event: PoolEvent) => void): () => void
}

export interface AcquireOptions {
  /** Gives up waiting when it aborts. A lease that was granted already stays granted. */
  readonly signal?: AbortSignal | undefined
  /** Longest wait for a worker, in milliseconds; `0` only takes one that is free now. @default `queue.timeout` */
  readonly timeout?: number | undefined
  /**
   * On whose behalf the session is opened, when this call opens one: an account, an address. Tenants that wait for workers
   * take turns, and `tenant.sessions` and `tenant.waiting` limit what one may hold. It does not tell sessions apart:
   * whoever names the id of a live session gets that one. Absent: the sessions of all such callers are served as those
   * of one more tenant, without its limits.
   */
  readonly tenant?: string | undefined
}

export interface DrainOptions {
  /**
   * Time that open connections get before they are cut, in milliseconds. Of several drains the nearest deadline holds.
   *
   * @default 30_000
   */
  readonly deadline?: number | undefined
}

export interface CloseOptions {
  /** Kills the workers instead of asking them to stop first. @default false */
  readonly force?: boolean | undefined
}

export interface PoolStats {
  readonly state: 'running' | 'draining' | 'stopped'
  /** Circuit breaker on starting workers. */
  readonly breaker: 'closed' | 'open' | 'halfOpen'
  /** `pressed` while the host has too little left for new sessions: see {@link PressureOptions}. */
  readonly pressure: 'relieved' | 'pressed'
  /** The host as it was sampled last; `null` before the first sample, and when nothing looks at it. */
  readonly host: HostUsage | null
  /** Workers by state. `total` counts every slot that has a process or will have one again. */
  readonly workers: {
    readonly total: number
    readonly spawning: number
    readonly healthy: number
    readonly leased: number
    readonly resetting: number
    readonly draining: number
    readonly restarting: number
  }
  /** Workers that are being started: `live + pendingAdds ≤ max`. */
  readonly pendingAdds: number
  readonly size: { readonly min: number; readonly max: number; readonly warm: number }
  /** Live sessions by state: `active` with an open connection, `idle` without, `closing` while open ones get their grace. */
  readonly sessions: { readonly active: number; readonly idle: number; readonly closing: number }
  /** Open connections on live sessions. */
  readonly leases: number
  /** Sessions that wait for a worker, and the acquire calls behind them. */
  readonly queue: { readonly sessions: number; readonly waiters: number }
  /** Tenants that have a session or wait for one. */
  readonly tenants: number
  /** Counts since the pool was made. */
  readonly totals: {
    readonly sessionsStarted: number
    readonly sessionsEnded: number
    readonly sessionsLost: number
    readonly workersStarted: number
    /** Those that failed to start, died or stopped answering. */
    readonly workersCrashed: number
    /** Those of them that were killed for want of memory. */
    readonly workersOutOfMemory: number
    /** Those that were replaced, or are to be, for their sessions, age or memory. */
    readonly workersWorn: number
    /** Reset hooks that failed: each costs a worker that was to be used again, and none counts as a crash. */
    readonly resetsFailed: number
  }
  /** How far the workers are isolated; absent when their backend does not say. */
  readonly isolation?: BackendStatus
}
