import { workerMachine, type Failure, type ProcessInput, type WorkerPolicy } from 'corral/machines'
import { fromCallback, fromPromise, type AnyEventObject, type AnyMachineSnapshot } from 'xstate'
import { findWalks, ownEvents, type Exploration, type Walk } from './_chart.ts'

export const workerPolicy: WorkerPolicy = {
  startTimeout: 1_000,
  startAttempts: 2,
  stopGrace: 500,
  reuse: 'never',
  resetTimeout: 200,
  recycleSessions: 0,
  sessionGrace: 300,
  restartLimit: 1,
  restartMinDelay: 10,
  restartMaxDelay: 100,
}

const never = fromPromise<void, ProcessInput>(() => new Promise(() => {}))

/** The worker chart with actors that do nothing: what they would tell are events of a walk. */
export const inertWorker = workerMachine.provide({
  actors: {
    process: fromCallback(() => {}),
    readiness: never,
    liveness: never,
    reset: never as never,
    session: never as never,
  },
})

const crash = { exitCode: 1, signal: null, output: ['last words'] }

function events(snapshot: AnyMachineSnapshot): AnyEventObject[] {
  return [
    { type: 'worker.lease', sessionId: 'red', token: 7 },
    { type: 'worker.stop', grace: 5 },
    { type: 'process.started', pid: 4711, address: { host: '127.0.0.1', port: 80 } },
    { type: 'process.exited', ...crash },
    { type: 'process.exited', ...crash, retry: true },
    { type: 'session.closing', sessionId: 'red', token: 7, reason: 'released' },
    ...ownEvents(snapshot).map((type) => ({ type, output: { reason: 'released' }, error: new Error('it broke') })),
  ]
}

const stateKey: Exploration['stateKey'] = ({ context }) => [
  context.attempt,
  context.restarts,
  context.process !== null,
  context.lease,
  (context.failure as Failure | null)?.code,
  context.sessions > 0,
]

/** What follows a session is all that the ways of reuse differ in: no need to start over in each of them. */
const onceStarted = { ...workerPolicy, startAttempts: 1, restartLimit: 0 }

export const workerExplorations: Exploration[] = [
  { ...workerPolicy, reuse: 'never' as const },
  { ...onceStarted, reuse: 'reset' as const },
  { ...onceStarted, reuse: 'dirty' as const },
].map((policy) => ({ input: { id: 'w1', policy }, events, stateKey }))

/** Walks that together take every transition of the worker chart. */
export const workerWalks: Walk[] = findWalks(inertWorker, workerExplorations)
