import type { WorkerAddress } from '../machines/events.ts'

/**
 * One open connection on a session. A session with at least one lease is active and never ends by idleness; give the
 * lease back as soon as the connection closes.
 *
 * @example
 * using lease = await pool.acquire('red')
 * await fetch(`http://127.0.0.1:${lease.worker.address.port}/`, { signal: lease.signal })
 */
export interface Lease extends Disposable {
  /** The session that the lease is on: the same object for all its leases, another one for the next session of that id. */
  readonly session: Session
  /** The worker that serves the session, from its start to its end. */
  readonly worker: WorkerInfo
  /**
   * Aborts when the session is over, whatever the cause: with a `SESSION_LOST` error when its worker crashed or became
   * unhealthy, else with `SESSION_ENDED`; open connections have had their grace by then. All leases of a session share one
   * signal, so it aborts after a lease was released too.
   */
  readonly signal: AbortSignal
  /**
   * Tells the pool that bytes moved on this connection. A worker that moves bytes is not given up for being too busy
   * to answer its liveness probe. Costs one counter: call it for every chunk.
   */
  touch(): void
  /**
   * Gives the connection back. Later calls do nothing, and a lease of an ended session never touches the next session
   * of the same id.
   */
  release(): void
}

/** One session: an id bound to one worker from start to end. */
export interface Session {
  readonly id: string
  /** Grows by every session of the pool; tells two sessions of one id apart. */
  readonly token: number
  readonly worker: WorkerInfo
  /** Whether it takes connections: from its start until its end begins. */
  readonly isOpen: boolean
  /** Aborts when the session is over: see {@link Lease.signal}. */
  readonly signal: AbortSignal
}

export interface WorkerInfo {
  /** The worker's id, such as `w3`; never reused within a pool. */
  readonly id: string
  /** Process id, for local processes. */
  readonly pid: number | undefined
  readonly address: WorkerAddress
}
