import type { WorkerAddress, WorkerStatus } from '../machines/events.ts'
import type { WorkerContext } from '../machines/worker-context.ts'
import { toEpoch, type Clock } from './clock.ts'
import type { SessionRecord } from './session-record.ts'
import type { Slot } from './slot.ts'

/** A live session as {@link Pool.sessions} lists it. Times are milliseconds since the Unix epoch. */
export interface SessionInfo {
  readonly id: string
  /** Tells two sessions of one id apart. */
  readonly token: number
  readonly workerId: string
  /** `active` with an open connection, `idle` without, `closing` while open ones get their grace. */
  readonly state: 'active' | 'idle' | 'closing'
  /** When a worker was bound to it. */
  readonly startedAt: number
  /** When its last connection closed; `undefined` unless it is `idle`. */
  readonly idleSince: number | undefined
  /** Open connections. */
  readonly leases: number
  /** On whose behalf it was opened: see {@link AcquireOptions.tenant}. */
  readonly tenant: string | undefined
}

/** A worker that is not dead, as {@link Pool.workers} lists it. Times are milliseconds since the Unix epoch. */
export interface WorkerDetails {
  readonly id: string
  /** One of those that {@link PoolStats.workers} counts. Inside a listener it may be a step ahead of the counts. */
  readonly state: Exclude<WorkerStatus, 'dead'>
  /** Process id; `undefined` while there is no process, and for workers that are no local processes. */
  readonly pid: number | undefined
  /** Where its process serves; `undefined` while there is none. */
  readonly address: WorkerAddress | undefined
  /** Processes that were ready to serve as this worker before the present one. */
  readonly incarnation: number
  /** When the start of its present process began; `undefined` while there is none. */
  readonly startedAt: number | undefined
  /** The session that is bound to it, which may be closing. */
  readonly sessionId: string | undefined
  /** The last lines that it wrote, oldest first; after a crash those of the process that crashed. */
  readonly output: readonly string[]
}

export function toSessionInfo(record: SessionRecord, clock: Clock): SessionInfo {
  const { id, token, worker, phase, leases, startedAt, idleSince, tenant } = record
  const state = phase === 'closing' ? 'closing' : leases > 0 ? 'active' : 'idle'
  return {
    id,
    token,
    workerId: worker.id,
    state,
    startedAt: toEpoch(clock, startedAt),
    idleSince: state === 'idle' ? toEpoch(clock, idleSince) : undefined,
    leases,
    tenant,
  }
}

/** @param slot is `undefined` while the worker has no process. */
export function toWorkerDetails(context: WorkerContext, slot: Slot | undefined, clock: Clock): WorkerDetails {
  const { id, reported, incarnation, lease, failure } = context
  const instance = slot?.instance
  return {
    id,
    // A worker that is dead is not listed: see PoolContext.workers.
    state: reported as WorkerDetails['state'],
    pid: instance?.pid,
    address: instance?.address,
    incarnation,
    startedAt: slot && toEpoch(clock, slot.startedAt),
    sessionId: lease?.sessionId,
    output: instance?.output?.() ?? failure?.output ?? [],
  }
}
