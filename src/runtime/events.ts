import type { Failure } from '../machines/failure.ts'
import type { SessionEndReason, WorkerAddress } from '../machines/events.ts'
import type { SessionLostError, WorkerStartError } from './errors.ts'

/** What happened, by name: the argument that listeners of {@link Pool.on} get. */
export interface PoolEvents {
  /** A process is being started, for the first time or again. */
  'worker.spawning': WorkerEvent & { incarnation: number }
  /** The worker passed its readiness check and can be leased. */
  'worker.ready': WorkerEvent & { pid: number | undefined; address: WorkerAddress }
  /** The worker's session ended and its reset hook runs. */
  'worker.resetting': WorkerEvent
  /** The worker was asked to stop, or is being killed. */
  'worker.draining': WorkerEvent
  /** A start failed, a serving process died, or it stopped answering its probes. */
  'worker.crashed': WorkerEvent & { failure: Failure }
  /** The worker waits out its backoff, in milliseconds, before it starts again. */
  'worker.restarting': WorkerEvent & { attempt: number; delay: number }
  /** The worker is gone for good, and every process it had. */
  'worker.dead': WorkerEvent & { reason: 'stopped' | 'failed'; exitCode: number | null; signal: string | null }
  /** A worker was bound to the session. */
  'session.started': SessionEvent
  /** The session's worker died or became unhealthy. Fires once, before the `session.ended` with reason `lost`. */
  'session.lost': SessionEvent & {
    reason: SessionLostError['reason']
    exitCode: number | null
    signal: string | null
    /** The last lines that the worker wrote, oldest first. */
    output: readonly string[]
    error: SessionLostError
  }
  /** The session is over; its worker is no longer bound to it. Fires exactly once per `session.started`. */
  'session.ended': SessionEvent & { reason: SessionEndReason }
  /** Starts keep failing: new sessions without a free worker are refused until a probe start succeeds. */
  'pool.breakerOpened': { error: WorkerStartError }
  /** The cool-down is over: one start at a time is tried. */
  'pool.breakerHalfOpened': object
  /** A start succeeded again. */
  'pool.breakerClosed': object
  /** No new sessions are taken any more. */
  'pool.draining': object
  /** Every worker is gone. */
  'pool.stopped': object
}

export type PoolEventType = keyof PoolEvents

/** The event of a type, or of any type: a union to be told apart by `type`. */
export type PoolEvent<T extends PoolEventType = PoolEventType> = {
  [K in T]: { readonly type: K } & Readonly<PoolEvents[K]>
}[T]

interface WorkerEvent {
  workerId: string
}

interface SessionEvent {
  sessionId: string
  /** Tells two sessions of one id apart. */
  token: number
  workerId: string
}
