import { poolMachine, workerMachine, type PoolPolicy, type ProcessInput, type WorkerPolicy } from 'corral/machines'
import { fromCallback, fromPromise } from 'xstate'

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
    wear: fromCallback(() => {}),
    reset: never as never,
    session: never as never,
  },
})

export const poolPolicy: PoolPolicy = {
  size: { min: 1, max: 2, warm: 0, startConcurrency: 2, shrinkAfter: 100 },
  queueLimit: 1,
  breaker: { failures: 2, cooldown: 50 },
  pressure: 'wait',
  worker: workerPolicy,
}

/** The pool chart with workers that do nothing: what they would tell are events of a walk. */
export const inertPool = poolMachine.provide({ actors: { worker: fromCallback(() => {}) as never } })
