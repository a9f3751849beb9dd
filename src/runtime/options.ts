import type { InspectionEvent } from 'xstate'
import type { WorkerBackend, WorkerInstance } from './backend.ts'

export interface PoolOptions {
  /** What a worker is and how it is started: {@link processWorker}, or a backend of your own. */
  readonly worker: WorkerBackend
  readonly size?: SizeOptions | undefined
  readonly session?: SessionOptions | undefined
  readonly queue?: QueueOptions | undefined
  readonly restart?: RestartOptions | undefined
  readonly breaker?: BreakerOptions | undefined
  /** Receives XState's inspection events of the pool, its workers and its sessions. Costs several µs per event. */
  readonly inspect?: ((event: InspectionEvent) => void) | undefined
}

export interface SizeOptions {
  /** Workers that are kept even when nobody needs them. `createPool` waits for them. @default 1 */
  readonly min?: number | undefined
  /** Most workers that exist at any time, starting and stopping ones included. @default 10 */
  readonly max?: number | undefined
  /** Spare idle workers kept ready beyond `min` and beyond those in use. `min + warm` may not exceed `max`. @default 0 */
  readonly warm?: number | undefined
  /** Most workers that start at the same time. @default 8 */
  readonly startConcurrency?: number | undefined
  /** How long idle workers beyond `min + warm` must have gone unused before they are stopped, in ms. @default 60_000 */
  readonly shrinkAfter?: number | undefined
}

export interface SessionOptions {
  /**
   * How long a session without an open connection lives, in milliseconds. `0` ends it with its last connection, `false`
   * never ends it.
   *
   * @default 300_000
   */
  readonly idleTtl?: number | false | undefined
  /**
   * Age at which a session ends as soon as it has no open connection, in milliseconds. `false`: no limit.
   *
   * @default false
   */
  readonly maxAge?: number | false | undefined
  /** What open connections get when their session is ended, in milliseconds, before they are cut. @default 5_000 */
  readonly grace?: number | undefined
  /**
   * What becomes of a worker whose session has ended: `false` stops it and starts a fresh one, so that nothing can
   * leak into another session; a {@link ResetHook} must succeed before it serves another session; `'dirty'` lets it
   * serve another session as it is.
   *
   * @default false
   */
  readonly reuse?: false | 'dirty' | ResetHook | undefined
}

export interface ResetHook {
  /**
   * Path that gets an HTTP `POST` on the worker, with any 2xx as success; or a function that resolves when the worker is
   * as new. When it fails the worker is stopped and replaced.
   */
  readonly reset: string | ((worker: ResetTarget, signal: AbortSignal) => Promise<void>)
  /** Longest time it may take, in milliseconds. @default 10_000 */
  readonly timeout?: number | undefined
}

export type ResetTarget = Pick<WorkerInstance, 'pid' | 'address'> & { readonly workerId: string }

export interface QueueOptions {
  /** Sessions that may wait for a worker; more are refused with `QUEUE_FULL`. @default 1_000 */
  readonly limit?: number | undefined
  /** Longest wait, in milliseconds, before `ACQUIRE_TIMEOUT`. @default 30_000 */
  readonly timeout?: number | undefined
}

/** How a worker that crashed while it served is started again in its slot. */
export interface RestartOptions {
  /** Restarts in a row, without a session served well in between, before the worker is replaced by a new one. @default 3 */
  readonly limit?: number | undefined
  /** Wait before the first restart, in milliseconds; doubles each time, with jitter. @default 100 */
  readonly minDelay?: number | undefined
  /** Longest wait, in milliseconds. @default 10_000 */
  readonly maxDelay?: number | undefined
}

/** When the pool stops starting workers because they keep failing. */
export interface BreakerOptions {
  /** Failures in a row, of starts and of workers that crashed before their first session, that open it. @default 3 */
  readonly failures?: number | undefined
  /** Time before one start is tried again, in milliseconds. @default 5_000 */
  readonly cooldown?: number | undefined
}
