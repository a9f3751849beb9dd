import type { Failure } from '../machines/failure.ts'
import type { HostPressure, PoolFact, SessionEndReason, WearCause, WorkerAddress } from '../machines/events.ts'
import { lossReason, SessionLostError, WorkerStartError, type LossReason } from './errors.ts'

/** What happened, by name: the argument that listeners of {@link Pool.on} get. */
export interface PoolEvents {
  /** A process is being started, for the first time or again: `incarnation` says how many times the worker was restarted. */
  'worker.spawning': WorkerEvent & { incarnation: number }
  /** The worker passed its readiness check and can be leased. */
  'worker.ready': WorkerEvent & { pid: number | undefined; address: WorkerAddress }
  /** The worker's session ended and its reset hook runs. */
  'worker.resetting': WorkerEvent
  /** The process is to be replaced, though it serves as it should: at once, or after the session that it has. */
  'worker.worn': WorkerEvent & { cause: WearCause }
  /** The worker was asked to stop, or is being killed: because of `failure`, if there is one. */
  'worker.draining': WorkerEvent & { failure: Failure | null }
  /** A start failed, a serving process died, or it stopped answering its probes. */
  'worker.crashed': WorkerEvent & { reason: LossReason; failure: Failure }
  /** The worker waits out its backoff, in milliseconds, before it starts again. */
  'worker.restarting': WorkerEvent & { attempt: number; delay: number }
  /** The worker is gone for good, and every process it had, but for those that could not be killed. */
  'worker.dead': WorkerEvent & { reason: 'stopped' | 'failed'; exitCode: number | null; signal: string | null }
  /** A worker was bound to the session. */
  'session.started': SessionEvent
  /** The session's worker died or became unhealthy. Fires once, before the `session.ended` with reason `lost`. */
  'session.lost': SessionEvent & {
    reason: LossReason
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
  /** Too much of the host is in use: new sessions wait or are refused. Shares of it, 0 to 1; `null` when not known. */
  'pool.pressed': HostPressure
  /** Enough of it is free again. */
  'pool.relieved': HostPressure
  /** No new sessions are taken any more. */
  'pool.draining': object
  /** Every worker is gone. */
  'pool.stopped': object
}

export type PoolEventType = keyof PoolEvents

const types: Readonly<Record<PoolEventType, true>> = {
  'worker.spawning': true,
  'worker.ready': true,
  'worker.resetting': true,
  'worker.worn': true,
  'worker.draining': true,
  'worker.crashed': true,
  'worker.restarting': true,
  'worker.dead': true,
  'session.started': true,
  'session.lost': true,
  'session.ended': true,
  'pool.breakerOpened': true,
  'pool.breakerHalfOpened': true,
  'pool.breakerClosed': true,
  'pool.pressed': true,
  'pool.relieved': true,
  'pool.draining': true,
  'pool.stopped': true,
}

export const poolEventTypes: ReadonlySet<unknown> = new Set(Object.keys(types))

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

/** The event that a fact of the charts is to listeners; `undefined` for those that are the pool's own business. */
export function toPoolEvent(fact: PoolFact): PoolEvent | undefined {
  switch (fact.type) {
    case 'session.closing':
    case 'session.refused':
    case 'pool.running':
      return undefined
    case 'session.lost':
      return toLostEvent(fact)
    case 'pool.breakerOpened':
      return { type: fact.type, error: new WorkerStartError(fact.failure) }
    case 'worker.spawning':
      return { type: fact.type, workerId: fact.workerId, incarnation: fact.incarnation }
    case 'worker.ready':
      // A worker is ready only after `process.started` told its address.
      return { type: fact.type, workerId: fact.workerId, pid: fact.pid, address: fact.address! }
    case 'worker.resetting':
      return { type: fact.type, workerId: fact.workerId }
    case 'worker.draining':
      return { type: fact.type, workerId: fact.workerId, failure: fact.failure }
    case 'worker.crashed':
      return { type: fact.type, workerId: fact.workerId, reason: lossReason(fact.failure), failure: fact.failure }
    case 'worker.restarting':
      return { type: fact.type, workerId: fact.workerId, attempt: fact.attempt, delay: fact.delay }
    case 'worker.dead': {
      const { type, workerId, reason, exitCode, signal } = fact
      return { type, workerId, reason, exitCode, signal }
    }
    default:
      return fact
  }
}

/** As above, for the one event whose error the session's leases get too. */
export function toLostEvent(fact: PoolFact & { type: 'session.lost' }): PoolEvent<'session.lost'> {
  const { type, sessionId, token, workerId, failure } = fact
  const { exitCode, signal, output } = failure
  const error = new SessionLostError(sessionId, failure)
  return { type, sessionId, token, workerId, reason: lossReason(failure), exitCode, signal, output, error }
}
