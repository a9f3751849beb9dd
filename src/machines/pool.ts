import { and, assertEvent, assign, emit, enqueueActions, sendTo, setup, stateIn, stopChild } from 'xstate'
import type {
  PoolCommand,
  PoolFact,
  SessionKey,
  StatusFact,
  WaitingSession,
  WorkerFact,
  WorkerOutput,
} from './events.ts'
import type { Failure } from './failure.ts'
import {
  minimumPlanFor,
  planFor,
  recount,
  slotOf,
  without,
  type CountedFact,
  type PoolContext,
  type PoolInput,
} from './pool-context.ts'
import { childOf, childrenOf, occupy, vacate, workerIdOf } from './slots.ts'
import { dequeue, emptyQueue, enqueue as enqueueSession, entries, remove } from './wait-queue.ts'
import { workerMachine } from './worker.ts'

export interface PoolOutput {
  /** Why the pool could not start; `null` when it was drained. */
  readonly failure: Failure | null
}

export type PoolEvent = PoolCommand | WorkerFact

/** What puts a session in the queue; with its round when it was taken from it before. */
type QueuedEvent = WaitingSession & { readonly round?: number | undefined }

const isRelieved = stateIn({ running: { pressure: 'relieved' } })

/**
 * The pool: decides which session gets which worker, and how many workers there are. What it decides on is small plain
 * JSON; live sessions are not in it, so that a request on a live session need not pass through here.
 *
 * Provide `worker`: a {@link workerMachine} with its own actors provided.
 */
export const poolMachine = setup({
  types: {
    context: {} as PoolContext,
    input: {} as PoolInput,
    output: {} as PoolOutput,
    events: {} as PoolEvent,
    emitted: {} as PoolFact,
  },
  actors: {
    worker: workerMachine,
  },
  actions: {
    /** Moves the worker from the count it leaves to the one it enters. */
    count: assign(({ context, event }) => recount(context, event as CountedFact)),
    // One action where two would do: XState makes a snapshot of each, and these are what a lease consists of.
    countIdle: assign(({ context, event }) => ({
      ...recount(context, event as CountedFact),
      idle: [...context.idle, (event as StatusFact).workerId],
    })),
    countLeased: assign(({ context, event }) => ({ ...recount(context, event as CountedFact), failures: 0 })),
    dropIdle: assign(({ context, event }) => ({
      idle: without(context.idle, (event as { workerId: string }).workerId),
    })),
    countFailure: assign(({ context, event }) => {
      assertEvent(event, 'worker.crashed')
      return event.served ? {} : { failures: context.failures + 1, failure: event.failure }
    }),
    forgetFailure: assign({ failure: null }),
    closeBreaker: enqueueActions(({ enqueue }) => {
      enqueue.assign({ failures: 0 })
      enqueue.emit({ type: 'pool.breakerClosed' })
    }),
    /** A worker has ended. */
    buryWorker: enqueueActions(({ context, enqueue, event }) => {
      const { output } = event as unknown as { output: WorkerOutput }
      const death = { type: 'worker.dead' as const, ...output }
      enqueue.assign({
        ...recount(context, death),
        workers: without(context.workers, death.workerId),
        slots: vacate(context.slots, death.workerId),
        idle: without(context.idle, death.workerId),
      })
      enqueue.emit(death)
    }),
    /** A finished child stays in the snapshot until it is stopped, and the next one must not get its id before. */
    clearSlot: stopChild(({ event }) => (event as unknown as { actorId: string }).actorId),
    relay: emit(({ event }) => event as PoolFact),
    announceSession: emit(({ event }) => {
      const { sessionId, token, workerId } = event as SessionKey & { workerId: string }
      return { type: 'session.started' as const, sessionId, token, workerId }
    }),
    startWorker: enqueueActions(({ context, enqueue }) => {
      const made = context.made + 1
      const id = workerIdOf(made)
      const slots = occupy(context.slots, id)
      enqueue.assign({
        made,
        workers: [...context.workers, id],
        slots,
        pendingAdds: context.pendingAdds + 1,
      })
      enqueue.spawnChild('worker', { id: childOf(slots, id), input: { id, policy: context.policy.worker } })
    }),
    /** Most recently idle first: its caches are warm, and those that idle longest may be stopped. */
    leaseNext: enqueueActions(({ context, enqueue }) => {
      const next = dequeue(context.queue)
      const workerId = context.idle.at(-1)
      if (!next || workerId === undefined) return
      const { session, round, queue } = next
      enqueue.assign({ queue, idle: context.idle.slice(0, -1) })
      enqueue.sendTo(slotOf(context, workerId), { type: 'worker.lease', ...session, round })
    }),
    stopUnneeded: enqueueActions(({ context, enqueue }) => {
      for (const workerId of context.idle.slice(0, context.unneeded)) {
        enqueue.sendTo(slotOf(context, workerId), { type: 'worker.stop' })
      }
      enqueue.assign({ idle: context.idle.slice(context.unneeded) })
    }),
    stopWorkers: enqueueActions(({ context, enqueue }) => {
      const grace = context.grace ?? undefined
      for (const id of childrenOf(context.slots).values()) enqueue.sendTo(id, { type: 'worker.stop', grace })
      enqueue.assign({ idle: [] })
    }),
    /** It leaves the idle ones in the same step, so that it cannot be leased any more. */
    drainWorker: enqueueActions(({ context, enqueue, event }) => {
      assertEvent(event, 'worker.drain')
      enqueue.assign({ idle: without(context.idle, event.workerId) })
      enqueue.sendTo(slotOf(context, event.workerId), { type: 'worker.stop', grace: event.grace })
    }),
    stopThisWorker: sendTo(
      ({ context, event }) => slotOf(context, (event as StatusFact).workerId),
      ({ context }) => ({ type: 'worker.stop' as const, grace: context.grace ?? undefined }),
    ),
    recordGrace: assign(({ event }) => {
      assertEvent(event, 'pool.drain')
      return { grace: event.grace ?? null }
    }),
    resetUnneeded: assign(({ context }) => ({ unneeded: planFor(context).surplus })),
    /** Puts a session in its place in the queue: behind all of its tenant that came before it. */
    queueSession: assign(({ context, event }) => {
      const { sessionId, token, tenant, round } = event as QueuedEvent
      const session = { sessionId, token, ...(tenant !== undefined && { tenant }) }
      return { queue: enqueueSession(context.queue, session, round) }
    }),
    cancelSession: assign(({ context, event }) => {
      assertEvent(event, 'session.cancel')
      return { queue: remove(context.queue, event) }
    }),
    refuse: emit(({ event }, params: { code: 'QUEUE_FULL' | 'HOST_PRESSURE' | 'POOL_DRAINING' }) => {
      const { sessionId, token } = event as SessionKey
      return { type: 'session.refused' as const, sessionId, token, code: params.code, failure: null }
    }),
    refuseWaiting: enqueueActions(({ context, enqueue }, params: { code: 'POOL_DRAINING' | 'START_FAILED' }) => {
      const failure = params.code === 'START_FAILED' ? context.failure : null
      for (const { sessionId, token } of entries(context.queue)) {
        enqueue.emit({ type: 'session.refused', sessionId, token, code: params.code, failure })
      }
      enqueue.assign({ queue: { ...emptyQueue, round: context.queue.round } })
    }),
    announceOpened: enqueueActions(({ context, enqueue }) => {
      if (context.failure) enqueue.emit({ type: 'pool.breakerOpened', failure: context.failure })
    }),
    announcePressed: emit(({ event }) => {
      assertEvent(event, 'host.pressed')
      return { ...event, type: 'pool.pressed' as const }
    }),
    announceRelieved: emit(({ event }) => {
      assertEvent(event, 'host.relieved')
      return { ...event, type: 'pool.relieved' as const }
    }),
    announce: emit(
      (_, params: { type: 'pool.running' | 'pool.breakerHalfOpened' | 'pool.draining' | 'pool.stopped' }) => params,
    ),
  },
  guards: {
    isFilled: ({ context }) => context.counts.healthy >= context.policy.size.min,
    isKnown: ({ context, event }) => {
      assertEvent(event, 'worker.drain')
      return context.workers.includes(event.workerId)
    },
    isEmpty: ({ context }) => context.workers.length === 0,
    /** A worker that drains before the pool has started has failed, and its crash, once it is gone, ends the pool; or it is worn. */
    canFill: ({ context }) => context.counts.draining === 0 && planFor(context).start > 0,
    canGrow: and([({ context }) => planFor(context).start > 0, isRelieved]),
    canProbe: and([({ context }) => context.pendingAdds === 0 && planFor(context).start > 0, isRelieved]),
    /** However pressed the host is, the pool keeps the least that it was asked for. */
    lacksMinimum: ({ context }) => minimumPlanFor(context).start > 0,
    canProbeMinimum: ({ context }) => context.pendingAdds === 0 && minimumPlanFor(context).start > 0,
    canLease: ({ context }) => context.idle.length > 0 && context.queue.size > 0,
    cannotLease: ({ context }) => context.idle.length === 0 && context.queue.size > 0,
    isQueueFull: ({ context }) => context.idle.length === 0 && context.queue.size >= context.policy.queueLimit,
    /** While idle workers may not be leased. */
    isQueueAtLimit: ({ context }) => context.queue.size >= context.policy.queueLimit,
    refusesUnderPressure: ({ context }) => context.policy.pressure === 'refuse',
    failsRepeatedly: ({ context }) => context.failures >= context.policy.breaker.failures,
    /** A worker that comes back from a session is ready too, but proves nothing about starts. */
    hasStarted: ({ event }) => {
      assertEvent(event, 'worker.ready')
      return event.from === 'spawning'
    },
    isProbe: ({ event }) => {
      assertEvent(event, 'worker.crashed')
      return !event.served
    },
    hasSurplus: ({ context }) => planFor(context).surplus > 0,
    hasNoSurplus: ({ context }) => planFor(context).surplus === 0,
    neededMore: ({ context }) => planFor(context).surplus < context.unneeded,
  },
  delays: {
    shrinkAfter: ({ context }) => context.policy.size.shrinkAfter,
    cooldown: ({ context }) => context.policy.breaker.cooldown,
  },
}).createMachine({
  id: 'pool',
  context: ({ input }) => ({
    ...input,
    workers: [],
    slots: [],
    idle: [],
    counts: { healthy: 0, leased: 0, resetting: 0, draining: 0, restarting: 0 },
    pendingAdds: 0,
    queue: emptyQueue,
    made: 0,
    failures: 0,
    failure: null,
    unneeded: 0,
    grace: null,
  }),
  output: ({ context }) => ({ failure: context.failure }),
  on: {
    'session.acquire': [
      { guard: 'isQueueFull', actions: { type: 'refuse', params: { code: 'QUEUE_FULL' } } },
      { actions: 'queueSession' },
    ],
    'session.cancel': { actions: 'cancelSession' },
    'worker.drain': { guard: 'isKnown', actions: 'drainWorker' },
    'worker.spawning': { actions: ['count', 'relay'] },
    'worker.ready': { actions: ['countIdle', 'relay'] },
    'worker.leased': { actions: ['countLeased', 'announceSession'] },
    'worker.leaseRefused': { actions: 'queueSession' },
    'worker.resetting': { actions: ['count', 'relay'] },
    'worker.draining': { actions: ['count', 'dropIdle', 'relay'] },
    'worker.crashed': { actions: ['count', 'dropIdle', 'countFailure', 'relay'] },
    'worker.restarting': { actions: ['count', 'relay'] },
    'worker.worn': { actions: ['dropIdle', 'relay'] },
    'session.closing': { actions: 'relay' },
    'session.lost': { actions: 'relay' },
    'session.ended': { actions: 'relay' },
    'xstate.done.actor.*': { actions: ['buryWorker', 'clearSlot'] },
  },
  initial: 'starting',
  states: {
    starting: {
      description: 'Until `min` workers are healthy. The first failure ends the pool.',
      always: [
        { guard: 'isFilled', target: 'running' },
        { guard: 'canFill', actions: 'startWorker' },
      ],
      on: {
        'worker.crashed': { target: 'draining', actions: ['count', 'dropIdle', 'countFailure', 'relay'] },
        'pool.drain': { target: 'draining', actions: 'recordGrace' },
      },
    },
    running: {
      entry: { type: 'announce', params: { type: 'pool.running' } },
      on: {
        'pool.drain': { target: 'draining', actions: ['recordGrace', 'forgetFailure'] },
      },
      type: 'parallel',
      states: {
        breaker: {
          initial: 'closed',
          states: {
            closed: {
              always: [
                { guard: 'failsRepeatedly', target: 'open' },
                { guard: 'canGrow', actions: 'startWorker' },
                { guard: 'lacksMinimum', actions: 'startWorker' },
              ],
            },
            open: {
              description: 'Nothing is started; sessions that would have to wait are refused with the cause.',
              entry: 'announceOpened',
              always: {
                guard: 'cannotLease',
                actions: { type: 'refuseWaiting', params: { code: 'START_FAILED' } },
              },
              after: { cooldown: 'halfOpen' },
              on: {
                'worker.ready': {
                  guard: 'hasStarted',
                  target: 'closed',
                  actions: ['countIdle', 'relay', 'closeBreaker'],
                },
              },
            },
            halfOpen: {
              description: 'One start at a time, when there is need for one; its outcome decides.',
              entry: { type: 'announce', params: { type: 'pool.breakerHalfOpened' } },
              always: [
                { guard: 'canProbe', actions: 'startWorker' },
                { guard: 'canProbeMinimum', actions: 'startWorker' },
              ],
              on: {
                'worker.ready': {
                  guard: 'hasStarted',
                  target: 'closed',
                  actions: ['countIdle', 'relay', 'closeBreaker'],
                },
                'worker.crashed': {
                  guard: 'isProbe',
                  target: 'open',
                  actions: ['count', 'dropIdle', 'countFailure', 'relay'],
                },
              },
            },
          },
        },
        pressure: {
          initial: 'relieved',
          states: {
            relieved: {
              always: { guard: 'canLease', actions: 'leaseNext' },
              on: {
                'host.pressed': { target: 'pressed', actions: 'announcePressed' },
              },
            },
            pressed: {
              description: 'The host has too little left: no worker is leased, and none started beyond `min`.',
              on: {
                'host.relieved': { target: 'relieved', actions: 'announceRelieved' },
                'session.acquire': [
                  {
                    guard: 'refusesUnderPressure',
                    actions: { type: 'refuse', params: { code: 'HOST_PRESSURE' } },
                  },
                  { guard: 'isQueueAtLimit', actions: { type: 'refuse', params: { code: 'QUEUE_FULL' } } },
                  { actions: 'queueSession' },
                ],
              },
            },
          },
        },
        capacity: {
          initial: 'needed',
          states: {
            needed: {
              always: { guard: 'hasSurplus', target: 'surplus' },
            },
            surplus: {
              description: 'Idle workers beyond need; those that stay so for `shrinkAfter` are stopped.',
              entry: 'resetUnneeded',
              always: [
                { guard: 'hasNoSurplus', target: 'needed' },
                { guard: 'neededMore', actions: 'resetUnneeded' },
              ],
              after: {
                shrinkAfter: { target: 'surplus', reenter: true, actions: 'stopUnneeded' },
              },
            },
          },
        },
      },
    },
    draining: {
      entry: [
        { type: 'announce', params: { type: 'pool.draining' } },
        { type: 'refuseWaiting', params: { code: 'POOL_DRAINING' } },
        'stopWorkers',
      ],
      always: { guard: 'isEmpty', target: 'stopped' },
      on: {
        'pool.drain': { actions: ['recordGrace', 'stopWorkers'] },
        'session.acquire': { actions: { type: 'refuse', params: { code: 'POOL_DRAINING' } } },
        'worker.leaseRefused': { actions: { type: 'refuse', params: { code: 'POOL_DRAINING' } } },
        'worker.ready': { actions: ['count', 'relay', 'stopThisWorker'] },
        'worker.restarting': { actions: ['count', 'relay', 'stopThisWorker'] },
        // Nobody comes after it. XState copies all children to stop one.
        'xstate.done.actor.*': { actions: 'buryWorker' },
      },
    },
    stopped: {
      type: 'final',
      entry: { type: 'announce', params: { type: 'pool.stopped' } },
    },
  },
})
