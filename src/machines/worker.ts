import {
  assertEvent,
  assign,
  emit,
  enqueueActions,
  fromCallback,
  fromPromise,
  sendTo,
  setup,
  stateIn,
  type EventObject,
} from 'xstate'
import type {
  DeathFact,
  ProcessCommand,
  ProcessFact,
  SessionFact,
  WearCause,
  WearFact,
  WorkerCommand,
  WorkerFact,
  WorkerOutput,
} from './events.ts'
import { exitFailure, toFailure, withExit, type FailureCode } from './failure.ts'
import { sessionMachine } from './session.ts'
import { tell } from './tell.ts'
import {
  backoff,
  hasServedAll,
  processInput,
  statusFact,
  workerOutput,
  type ProcessInput,
  type ReportedStatus,
  type ResetInput,
  type WorkerContext,
  type WorkerInput,
} from './worker-context.ts'

/** What follows when an actor that watches the process fails. */
const onUnhealthy = {
  target: 'killing',
  actions: [{ type: 'recordError', params: { code: 'WORKER_UNHEALTHY' } }, { type: 'loseSession' }],
} as const

export type WorkerEvent = WorkerCommand | ProcessFact | SessionFact | WearFact

/**
 * One worker: a slot that holds one OS process at a time. The session is invoked by the state `leased`, so a worker
 * cannot hold two, and a crash ends the session in the same transition. The state `dead` is entered only when no process
 * is left.
 *
 * Provide `process`, `readiness`, `liveness` and, with `reuse: 'reset'`, `reset`. `process` sends `process.started` and
 * `process.exited`, obeys `process.stop` and `process.kill`, and ends the process when it is itself stopped. Where processes
 * are to be replaced for their age or size, provide `wear`, too: it sends `worker.worn`.
 */
export const workerMachine = setup({
  types: {
    context: {} as WorkerContext,
    input: {} as WorkerInput,
    output: {} as WorkerOutput,
    events: {} as WorkerEvent,
    emitted: {} as WorkerFact | DeathFact,
    tags: {} as 'available',
    children: {} as { process: 'process'; session: 'session' },
  },
  actors: {
    process: fromCallback<ProcessCommand, ProcessInput>(() => unprovided('process')),
    readiness: fromPromise<void, ProcessInput>(() => unprovided('readiness')),
    liveness: fromPromise<void, ProcessInput>(() => unprovided('liveness')),
    wear: fromCallback<EventObject, ProcessInput>(() => {}),
    reset: fromPromise<void, ResetInput>(() => unprovided('reset')),
    session: sessionMachine,
  },
  actions: {
    recordStart: assign(({ event }) => {
      assertEvent(event, 'process.started')
      return { process: { pid: event.pid, address: event.address } }
    }),
    recordExit: assign(({ context, event }) => {
      assertEvent(event, 'process.exited')
      const { exitCode, signal } = event
      return { exit: { exitCode, signal }, failure: context.failure && withExit(context.failure, event) }
    }),
    recordFailedExit: assign(({ event }, params: { code: FailureCode }) => {
      assertEvent(event, 'process.exited')
      const { exitCode, signal } = event
      return { exit: { exitCode, signal }, failure: exitFailure(params.code, event) }
    }),
    recordError: assign(({ event }, params: { code: FailureCode }) => ({
      failure: toFailure(params.code, (event as { error?: unknown }).error),
    })),
    recordTimeout: assign((_, params: { code: FailureCode; message: string }) => ({
      failure: toFailure(params.code, params.message),
    })),
    stopProcess: sendTo('process', { type: 'process.stop' }),
    killProcess: sendTo('process', { type: 'process.kill' }),
    nextAttempt: assign(({ context }) => ({ attempt: context.attempt + 1, process: null, failure: null })),
    planRestart: assign(({ context }) => ({
      restarts: context.restarts + 1,
      restartDelay: backoff(context.policy, context.restarts, `${context.id}:${context.incarnation}`),
    })),
    nextIncarnation: assign(({ context }) => ({
      incarnation: context.incarnation + 1,
      attempt: 1,
      sessions: 0,
      process: null,
      failure: null,
      exit: null,
    })),
    bindSession: assign(({ context, event }) => {
      assertEvent(event, 'worker.lease')
      return { lease: { sessionId: event.sessionId, token: event.token }, sessions: context.sessions + 1 }
    }),
    endSession: enqueueActions(({ enqueue, event }) => {
      assertEvent(event, 'worker.stop')
      enqueue.sendTo('session', { type: 'session.end', reason: 'drained', grace: event.grace })
    }),
    /** The session's own end: it served its worker well, so the restart budget is whole again. */
    finishSession: enqueueActions(({ context, enqueue, event, self }) => {
      const { id: workerId, lease } = context
      if (!lease) return
      const { reason } = (event as unknown as { output: { reason: SessionFact['reason'] } }).output
      tell(enqueue, self, { type: 'session.ended', workerId, ...lease, reason })
      enqueue.assign({ lease: null, restarts: 0 })
    }),
    loseSession: enqueueActions(({ context, enqueue, self }) => {
      const { id: workerId, lease, failure } = context
      if (!lease || !failure) return
      tell(enqueue, self, { type: 'session.lost', workerId, ...lease, failure })
      tell(enqueue, self, { type: 'session.ended', workerId, ...lease, reason: 'lost' })
      enqueue.assign({ lease: null })
    }),
    refuseLease: enqueueActions(({ context, enqueue, event, self }) => {
      assertEvent(event, 'worker.lease')
      tell(enqueue, self, { ...event, type: 'worker.leaseRefused', workerId: context.id })
    }),
    relayWear: enqueueActions(({ context, enqueue, event, self }) => {
      assertEvent(event, 'worker.worn')
      tell(enqueue, self, { ...event, workerId: context.id })
    }),
    tellWear: enqueueActions(({ context, enqueue, self }, params: { cause: WearCause }) => {
      tell(enqueue, self, { type: 'worker.worn', workerId: context.id, cause: params.cause })
    }),
    relayClosing: enqueueActions(({ context, enqueue, event, self }) => {
      assertEvent(event, 'session.closing')
      tell(enqueue, self, { ...event, workerId: context.id })
    }),
    report: enqueueActions(({ context, enqueue, self }, params: { status: ReportedStatus }) => {
      tell(enqueue, self, statusFact(context, params.status))
      enqueue.assign({ reported: params.status })
    }),
    /** For whoever listens to this worker; a pool reads its output. */
    announceDeath: emit(({ context }) => ({ type: 'worker.dead' as const, ...workerOutput(context) })),
    reportCrash: enqueueActions(({ context, enqueue, self }) => {
      const { id: workerId, reported: from, failure, sessions } = context
      if (!failure) return
      tell(enqueue, self, { type: 'worker.crashed', workerId, from, failure, served: sessions > 0 })
      enqueue.assign({ reported: 'restarting' })
    }),
  },
  guards: {
    canRetryStart: ({ context, event }) =>
      event.type === 'process.exited' &&
      event.retry === true &&
      context.attempt < context.policy.startAttempts &&
      (context.failure === null || context.failure.code === 'WORKER_START_FAILED'),
    canRestart: ({ context }) =>
      context.restarts < context.policy.restartLimit && !context.failure?.code.startsWith('WORKER_START'),
    isRetiring: stateIn({ alive: { serving: { leased: 'retiring' } } }),
    /** Else it is stopped after its session anyway. */
    isReused: ({ context }) => context.policy.reuse !== 'never',
    hasServedAll: ({ context }) => hasServedAll(context),
    wantsReset: ({ context }) => context.policy.reuse === 'reset',
    isReusable: ({ context }) => context.policy.reuse === 'dirty',
  },
  delays: {
    startTimeout: ({ context }) => context.policy.startTimeout,
    stopGrace: ({ context }) => context.policy.stopGrace,
    resetTimeout: ({ context }) => context.policy.resetTimeout,
    restartDelay: ({ context }) => context.restartDelay,
  },
}).createMachine({
  id: 'worker',
  context: ({ input }) => ({
    ...input,
    incarnation: 0,
    attempt: 1,
    restarts: 0,
    restartDelay: 0,
    process: null,
    lease: null,
    sessions: 0,
    failure: null,
    exit: null,
    reported: 'spawning',
  }),
  output: ({ context }) => workerOutput(context),
  on: {
    'worker.lease': { actions: 'refuseLease' },
  },
  initial: 'alive',
  states: {
    alive: {
      description: 'A process exists, or is being made. It is killed when this state is left.',
      invoke: {
        id: 'process',
        src: 'process',
        input: processInput,
        onError: {
          target: 'crashed',
          actions: [{ type: 'recordError', params: { code: 'WORKER_START_FAILED' } }, 'loseSession'],
        },
      },
      on: {
        'process.started': { actions: 'recordStart' },
      },
      initial: 'spawning',
      states: {
        spawning: {
          entry: { type: 'report', params: { status: 'spawning' } },
          invoke: {
            id: 'readiness',
            src: 'readiness',
            input: processInput,
            onDone: 'serving',
            onError: {
              target: 'killing',
              actions: { type: 'recordError', params: { code: 'WORKER_START_FAILED' } },
            },
          },
          after: {
            startTimeout: {
              target: 'killing',
              actions: {
                type: 'recordTimeout',
                params: { code: 'WORKER_START_TIMEOUT', message: 'The worker was not ready in time' },
              },
            },
          },
          on: {
            'process.exited': [
              { guard: 'canRetryStart', target: '#worker.alive', actions: 'nextAttempt' },
              {
                target: '#worker.crashed',
                actions: { type: 'recordFailedExit', params: { code: 'WORKER_START_FAILED' } },
              },
            ],
            'worker.stop': 'draining',
          },
        },
        serving: {
          invoke: [
            {
              id: 'liveness',
              src: 'liveness',
              input: processInput,
              onError: onUnhealthy,
            },
            {
              id: 'wear',
              src: 'wear',
              input: processInput,
              onError: onUnhealthy,
            },
          ],
          on: {
            'process.exited': {
              target: '#worker.crashed',
              actions: [{ type: 'recordFailedExit', params: { code: 'WORKER_CRASHED' } }, 'loseSession'],
            },
            'worker.stop': 'draining',
          },
          initial: 'healthy',
          states: {
            healthy: {
              tags: 'available',
              entry: { type: 'report', params: { status: 'healthy' } },
              on: {
                'worker.lease': { target: 'leased', actions: 'bindSession' },
                'worker.worn': { target: '#worker.alive.draining', actions: 'relayWear' },
              },
            },
            leased: {
              entry: { type: 'report', params: { status: 'leased' } },
              invoke: {
                id: 'session',
                src: 'session',
                input: ({ context }) => ({
                  sessionId: context.lease?.sessionId ?? '',
                  token: context.lease?.token ?? 0,
                  grace: context.policy.sessionGrace,
                }),
                onDone: [
                  { guard: 'isRetiring', target: '#worker.alive.draining', actions: 'finishSession' },
                  {
                    guard: 'hasServedAll',
                    target: '#worker.alive.draining',
                    actions: ['finishSession', { type: 'tellWear', params: { cause: 'sessions' } }],
                  },
                  { guard: 'wantsReset', target: 'resetting', actions: 'finishSession' },
                  { guard: 'isReusable', target: 'healthy', actions: 'finishSession' },
                  { target: '#worker.alive.draining', actions: 'finishSession' },
                ],
                onError: {
                  target: '#worker.alive.killing',
                  actions: [{ type: 'recordError', params: { code: 'WORKER_CRASHED' } }, 'loseSession'],
                },
              },
              on: {
                'session.closing': { actions: 'relayClosing' },
              },
              initial: 'bound',
              states: {
                bound: {
                  on: {
                    'worker.stop': { target: 'retiring', actions: 'endSession' },
                    'worker.worn': { guard: 'isReused', target: 'retiring', actions: 'relayWear' },
                  },
                },
                retiring: {
                  description: 'The worker stops when its session has ended.',
                  on: { 'worker.stop': { actions: 'endSession' } },
                },
              },
            },
            resetting: {
              entry: { type: 'report', params: { status: 'resetting' } },
              on: {
                'worker.worn': { target: '#worker.alive.draining', actions: 'relayWear' },
              },
              invoke: {
                id: 'reset',
                src: 'reset',
                input: ({ context }) => ({ ...processInput({ context }), process: context.process }),
                onDone: 'healthy',
                onError: {
                  target: '#worker.alive.draining',
                  actions: { type: 'recordError', params: { code: 'WORKER_RESET_FAILED' } },
                },
              },
              after: {
                resetTimeout: {
                  target: '#worker.alive.draining',
                  actions: {
                    type: 'recordTimeout',
                    params: { code: 'WORKER_RESET_FAILED', message: 'The reset hook did not finish in time' },
                  },
                },
              },
            },
          },
        },
        draining: {
          entry: ['stopProcess', { type: 'report', params: { status: 'draining' } }],
          after: { stopGrace: { actions: 'killProcess' } },
          on: {
            'process.exited': { target: '#worker.dead', actions: 'recordExit' },
          },
        },
        killing: {
          description: 'Failed beyond repair, but its process is still there.',
          entry: ['killProcess', { type: 'report', params: { status: 'draining' } }],
          on: {
            'process.exited': [
              { guard: 'canRetryStart', target: '#worker.alive', actions: 'nextAttempt' },
              { target: '#worker.crashed', actions: 'recordExit' },
            ],
            'worker.stop': 'draining',
          },
        },
      },
    },
    crashed: {
      entry: 'reportCrash',
      always: [{ guard: 'canRestart', target: 'restarting', actions: 'planRestart' }, { target: 'dead' }],
    },
    restarting: {
      entry: { type: 'report', params: { status: 'restarting' } },
      after: {
        restartDelay: { target: 'alive', actions: 'nextIncarnation' },
      },
      on: {
        'worker.stop': 'dead',
      },
    },
    dead: {
      type: 'final',
      entry: 'announceDeath',
    },
  },
})

function unprovided(actor: string): never {
  throw new Error(`workerMachine: the actor "${actor}" is not provided; see workerMachine.provide({ actors })`)
}
