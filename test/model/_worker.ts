import type { Failure } from 'corral/machines'
import type { AnyEventObject, AnyMachineSnapshot } from 'xstate'
import { findWalks, ownEvents, type Exploration, type Walk } from './_chart.ts'
import { inertWorker, workerPolicy } from './_inert.ts'

const crash = { exitCode: 1, signal: null, output: ['last words'] }

function events(snapshot: AnyMachineSnapshot): AnyEventObject[] {
  return [
    { type: 'worker.lease', sessionId: 'red', token: 7 },
    { type: 'worker.stop', grace: 5 },
    { type: 'worker.worn', cause: 'age' },
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
  { ...onceStarted, reuse: 'dirty' as const, recycleSessions: 1 },
].map((policy) => ({ input: { id: 'w1', policy }, events, stateKey }))

/** Walks that together take every transition of the worker chart. */
export const workerWalks: Walk[] = findWalks(inertWorker, workerExplorations)
