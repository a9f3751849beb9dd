import type { CrashFact, DeathFact, StatusFact, WorkerStatus } from './events.ts'
import type { Failure } from './failure.ts'
import { plan, type Plan, type SizeLimits } from './sizing.ts'
import { childOf, type Slots } from './slots.ts'
import { emptyQueue, type WaitQueue } from './wait-queue.ts'
import type { WorkerPolicy } from './worker-context.ts'

/** The rules a pool lives by. All times in milliseconds. */
export interface PoolPolicy {
  readonly size: SizeLimits & {
    /** How long idle workers must have been more than are needed before they are stopped. */
    readonly shrinkAfter: number
  }
  /** Sessions that may wait for a worker. */
  readonly queueLimit: number
  readonly breaker: {
    /** Failures in a row that open it. */
    readonly failures: number
    /** Time before a start is tried again. */
    readonly cooldown: number
  }
  /** What becomes of new sessions while the host is pressed: they wait until it is relieved, or are refused. */
  readonly pressure: 'wait' | 'refuse'
  readonly worker: WorkerPolicy
}

export interface PoolInput {
  readonly policy: PoolPolicy
}

/** Statuses that the pool counts by; starting workers are {@link PoolContext.pendingAdds}, dead ones are nowhere. */
export type CountedStatus = Exclude<WorkerStatus, 'spawning' | 'dead'>

export interface PoolContext extends PoolInput {
  /** Ids of all workers that are not dead, in order of their making. */
  readonly workers: readonly string[]
  /** The child that each of them is. */
  readonly slots: Slots
  /** Ids of the workers that can be leased, longest idle first. One on its way to be leased or stopped is not in it. */
  readonly idle: readonly string[]
  readonly counts: Readonly<Record<CountedStatus, number>>
  /** Workers that are being started. */
  readonly pendingAdds: number
  readonly queue: WaitQueue
  /** Workers made so far: the number of the newest. */
  readonly made: number
  /** Failures in a row: starts that failed, and workers that crashed before their first session. */
  readonly failures: number
  /** The newest of them. */
  readonly failure: Failure | null
  /** Fewest idle workers beyond need since the present count of `shrinkAfter` began: that many were never needed. */
  readonly unneeded: number
  /** What open connections get while the pool drains. */
  readonly grace: number | null
}

/** What the sizing rules say of a pool now. */
export function planFor({ policy, workers, idle, counts, pendingAdds, queue }: PoolContext): Plan {
  return plan(policy.size, {
    slots: workers.length,
    idle: idle.length,
    spawning: pendingAdds,
    resetting: counts.resetting,
    restarting: counts.restarting,
    draining: counts.draining,
    waiting: queue.size,
  })
}

/** As above, as if nobody waited and no spares were wanted. */
export function minimumPlanFor(context: PoolContext): Plan {
  const { policy } = context
  return planFor({ ...context, policy: { ...policy, size: { ...policy.size, warm: 0 } }, queue: emptyQueue })
}

/** What moves a worker from one count to another. */
export type CountedFact = StatusFact | CrashFact | DeathFact

const statusOf: Readonly<Record<CountedFact['type'], WorkerStatus>> = {
  'worker.spawning': 'spawning',
  'worker.ready': 'healthy',
  'worker.leased': 'leased',
  'worker.resetting': 'resetting',
  'worker.draining': 'draining',
  'worker.crashed': 'restarting',
  'worker.restarting': 'restarting',
  'worker.dead': 'dead',
}

/** The counts once the worker has left the one that it was in, and entered the one that the fact tells of. */
export function recount(context: PoolContext, fact: CountedFact): Partial<PoolContext> {
  const counts = { ...context.counts }
  let { pendingAdds } = context
  const add = (status: WorkerStatus, by: 1 | -1) => {
    if (status === 'spawning') pendingAdds += by
    else if (status !== 'dead') counts[status] += by
  }
  add(fact.from, -1)
  add(statusOf[fact.type], 1)
  return { counts, pendingAdds }
}

/** The child that a worker is. Every worker that is not dead has one. */
export function slotOf({ slots }: PoolContext, workerId: string): string {
  const slot = childOf(slots, workerId)
  if (slot === undefined) throw new Error(`There is no worker ${workerId}`)
  return slot
}

export function without(ids: readonly string[], id: string): readonly string[] {
  const index = ids.indexOf(id)
  return index === -1 ? ids : ids.toSpliced(index, 1)
}
