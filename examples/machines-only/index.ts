/**
 * The worker and pool charts without Corral's runtime: workers are objects in memory, and the program prints the states
 * that they pass through. Run it with `npm run example:machines`.
 */
import { poolMachine, workerMachine, type PoolPolicy, type ProcessCommand, type ProcessInput } from 'corral/machines'
import { createActor, fromCallback, fromPromise, type AnyActorRef, type SnapshotFrom } from 'xstate'

const inMemoryWorker = workerMachine.provide({
  actors: {
    process: fromCallback<ProcessCommand, ProcessInput>(({ input, receive, sendBack }) => {
      const port = 10_000 + Number(input.workerId.slice(1))
      sendBack({ type: 'process.started', pid: undefined, address: { host: '127.0.0.1', port } })
      receive(({ type }) => {
        const [exitCode, signal] = type === 'process.stop' ? [0, null] : [null, 'SIGKILL']
        sendBack({ type: 'process.exited', exitCode, signal })
      })
    }),
    readiness: fromPromise<void, ProcessInput>(() => Promise.resolve()),
    liveness: fromPromise<void, ProcessInput>(() => new Promise(() => {})),
  },
})

const policy: PoolPolicy = {
  size: { min: 1, max: 2, warm: 0, startConcurrency: 2, shrinkAfter: 1_000 },
  queueLimit: 10,
  breaker: { failures: 3, cooldown: 1_000 },
  pressure: 'wait',
  worker: {
    startTimeout: 1_000,
    startAttempts: 1,
    stopGrace: 1_000,
    reuse: 'never',
    resetTimeout: 1_000,
    recycleSessions: 0,
    sessionGrace: 0,
    restartLimit: 3,
    restartMinDelay: 10,
    restartMaxDelay: 100,
  },
}

const lastState = new Map<string, string>()

const pool = createActor(poolMachine.provide({ actors: { worker: inMemoryWorker } }), {
  input: { policy },
  inspect: (inspection) => {
    if (inspection.type !== '@xstate.snapshot') return
    const { id } = inspection.actorRef as AnyActorRef
    if (id.startsWith('slot')) printState(inspection.snapshot as SnapshotFrom<typeof workerMachine>)
  },
})

pool.on('session.started', ({ sessionId, workerId }) => print(`session ${sessionId} runs on ${workerId}`))
pool.on('session.lost', ({ sessionId, failure }) => print(`session ${sessionId} is lost:`, failure.message))
pool.on('session.ended', ({ sessionId, reason }) => print(`session ${sessionId} has ended:`, reason))

pool.start()
await until('worker.ready')

pool.send({ type: 'session.acquire', sessionId: 'red', token: 1 })
pool.send({ type: 'session.acquire', sessionId: 'blue', token: 2 })
await until('worker.ready')

// A crash ends the session in the same transition; the worker comes back for another one.
pool.getSnapshot().children['slot1']?.send({ type: 'process.exited', exitCode: 1, signal: null })
await until('worker.ready')

pool.send({ type: 'pool.drain' })
print('the pool is', path(pool.getSnapshot().value))

function until(type: 'worker.ready'): Promise<void> {
  return new Promise((resolve) => {
    const subscription = pool.on(type, () => {
      subscription.unsubscribe()
      resolve()
    })
  })
}

function printState({ context, value }: SnapshotFrom<typeof workerMachine>): void {
  const state = path(value)
  if (lastState.get(context.id) !== state) print(`${context.id} is`, state)
  lastState.set(context.id, state)
}

/** `{ alive: { serving: 'healthy' } }` → `alive.serving.healthy` */
function path(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value)
  return Object.entries(value)
    .map(([key, inner]) => `${key}.${path(inner)}`)
    .join(' + ')
}

function print(...words: string[]): void {
  process.stdout.write(`${words.join(' ')}\n`)
}
