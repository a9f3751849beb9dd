import type { PoolContext, WorkerStatus } from 'corral/machines'
import type { AnyEventObject, AnyMachineSnapshot } from 'xstate'
import { findWalks, ownEvents, type Exploration, type Walk } from './_chart.ts'
import { inertPool, poolPolicy } from './_inert.ts'

const failure = { code: 'WORKER_START_FAILED', message: 'it broke', exitCode: 1, signal: null, output: [] }
const session = { sessionId: 'red', token: 1 }

/** What a worker can report in each status, or `dead`, which its end tells. */
const reports: Readonly<Record<string, readonly string[]>> = {
  spawning: ['worker.ready', 'worker.draining', 'worker.crashed'],
  healthy: ['worker.leased', 'worker.worn', 'worker.draining', 'worker.crashed'],
  leased: ['worker.ready', 'worker.resetting', 'worker.worn', 'worker.draining', 'worker.crashed'],
  resetting: ['worker.ready', 'worker.worn', 'worker.draining', 'worker.crashed'],
  draining: ['worker.crashed', 'dead'],
  restarting: ['worker.restarting', 'worker.spawning', 'dead'],
}

/** What can happen to a pool. Once it has made more than `limit` workers it is drained: their number has no bound. */
const eventsUpTo =
  (limit: number) =>
  (snapshot: AnyMachineSnapshot): AnyEventObject[] => {
    const context = snapshot.context as PoolContext
    if (context.made > limit && !snapshot.matches('draining')) return [{ type: 'pool.drain', grace: 5 }]
    const { counts, pendingAdds, workers, idle } = context
    const statuses = Object.entries({ ...counts, spawning: pendingAdds }).filter(([, count]) => count > 0)
    const told = statuses.flatMap(([from]) => (reports[from] ?? []).flatMap((type) => reportsOf(context, type, from)))
    const anyWorker = workers.slice(0, 1).flatMap((workerId) => [
      { type: 'worker.leaseRefused', workerId, ...session },
      { type: 'session.closing', workerId, ...session, reason: 'released' },
      { type: 'session.lost', workerId, ...session, failure },
      { type: 'session.ended', workerId, ...session, reason: 'released' },
    ])
    return [
      { type: 'session.acquire', sessionId: 'red', token: 1 },
      { type: 'session.acquire', sessionId: 'blue', token: 2 },
      { type: 'session.cancel', token: 1 },
      { type: 'pool.drain', grace: 5 },
      { type: 'host.pressed', cpu: 1, memory: null },
      { type: 'host.relieved', cpu: 0, memory: null },
      ...[idle.at(0), workers.find((id) => !idle.includes(id)), 'w99'].map((workerId) => ({
        type: 'worker.drain',
        workerId,
        grace: 5,
      })),
      ...told,
      ...anyWorker,
      ...ownEvents(snapshot).map((type) => ({ type })),
    ]
  }

/** The report of one worker that may be in that status: the pool tells workers apart only by whether they are idle. */
function reportsOf({ workers, idle, counts }: PoolContext, type: string, from: string): AnyEventObject[] {
  const isOnItsWay = type === 'worker.leased'
  const candidates = workers.filter((id) => idle.includes(id) === (from === 'healthy' && !isOnItsWay))
  if (isOnItsWay && counts.healthy === idle.length) return []
  if (type === 'dead') return candidates.slice(0, 1).map((workerId) => deathOf(workerId, from))
  const variants =
    type === 'worker.crashed'
      ? [
          { failure, served: false },
          { failure, served: true },
        ]
      : [{}]
  return candidates.slice(0, 1).flatMap((workerId) =>
    variants.map((more) => ({
      type,
      workerId,
      from: from as WorkerStatus,
      ...more,
      ...(isOnItsWay && session),
      ...(type === 'worker.worn' && { cause: 'age' }),
    })),
  )
}

function deathOf(workerId: string, from: string): AnyEventObject {
  const output = { workerId, from, reason: 'stopped', exitCode: 0, signal: null, failure: null }
  return { type: `xstate.done.actor.${workerId}`, actorId: workerId, output }
}

const stateKey: Exploration['stateKey'] = ({ context }) => [
  context.counts,
  context.pendingAdds,
  context.workers.length,
  context.idle.length,
  context.queue.size,
  Math.min(context.failures, 2),
  context.unneeded,
]

/** Three idle workers, of which fewer and fewer are beyond need. */
const idleInput = { policy: { ...poolPolicy, queueLimit: 3, size: { ...poolPolicy.size, min: 0, max: 3 } } }
const pressedEvents = new Set(['session.acquire', 'worker.ready', 'host.pressed', 'host.relieved'])
const idleEvents = new Set(['session.acquire', 'session.cancel', 'worker.ready', 'worker.leased'])

/** All that can happen to a pool of at most two workers. */
export const poolExploration: Exploration = { input: { policy: poolPolicy }, events: eventsUpTo(2), stateKey }

const idleExploration: Exploration = {
  input: idleInput,
  events: (snapshot) => eventsUpTo(3)(snapshot).filter(({ type }) => idleEvents.has(type) || type.includes('after')),
  stateKey,
}

/** Refuses under pressure, and says so before a long queue does. */
const pressedExploration: Exploration = {
  input: { policy: { ...poolPolicy, pressure: 'refuse' } },
  events: (snapshot) => eventsUpTo(1)(snapshot).filter(({ type }) => pressedEvents.has(type)),
  stateKey,
}

/** Walks that together take every transition of the pool chart. */
export const poolWalks: Walk[] = findWalks(inertPool, [idleExploration, pressedExploration, poolExploration])
