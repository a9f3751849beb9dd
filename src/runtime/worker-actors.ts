import { fromCallback, fromPromise, type EventObject } from 'xstate'
import type { ProcessCommand, ProcessFact, WearFact } from '../machines/events.ts'
import { workerMachine } from '../machines/worker.ts'
import type { ProcessInput, ResetInput } from '../machines/worker-context.ts'
import type { WorkerInstance } from './backend.ts'
import { sleep, type Clock } from './clock.ts'
import { requestStatus } from './http-client.ts'
import type { PoolSettings } from './options.ts'
import { Slot } from './slot.ts'
import { untilWorn } from './wear.ts'

/** Every slot whose process may exist, by worker id. A slot leaves it when nothing of its process is left. */
export type Slots = Map<string, Slot>

/** The worker chart with its effects: the actors that it leaves open, on the backend of `settings`. */
export function provideWorker(settings: PoolSettings, slots: Slots, clock: Clock) {
  const wears = settings.recycle.age !== false || settings.recycle.memory !== false
  return workerMachine.provide({
    actors: {
      process: fromCallback<ProcessCommand, ProcessInput>(({ input, receive, sendBack }) => {
        const send = (fact: ProcessFact) => sendBack(fact)
        const slot = new Slot(settings.backend, input.workerId, clock.now())
        slots.set(input.workerId, slot)
        void slot.launched.then(({ pid, address }) => send({ type: 'process.started', pid, address }))
        void slot.exit.then((exit) => {
          if (slots.get(input.workerId) === slot) slots.delete(input.workerId)
          send({ type: 'process.exited', ...exit })
        })
        receive((command) => (command.type === 'process.stop' ? slot.stop() : slot.kill()))
        return () => slot.kill()
      }),
      readiness: fromPromise<void, ProcessInput>(async ({ input, signal }) => {
        const instance = await launched(slots, input)
        await instance.ready(signal).catch((error: unknown) => fail(error, instance))
      }),
      liveness: fromPromise<void, ProcessInput>(async ({ input, signal }) => {
        const instance = await launched(slots, input)
        await watch(instance, settings, clock, signal, () => slots.get(input.workerId)?.activity ?? 0)
      }),
      wear: fromCallback<EventObject, ProcessInput>(({ input, sendBack }) => {
        const slot = slots.get(input.workerId)
        if (!slot || !wears) return undefined
        const over = new AbortController()
        const send = (fact: WearFact) => sendBack(fact)
        const seed = `${input.workerId}:${input.incarnation}`
        const worn = untilWorn(slot, seed, { ...settings, clock }, over.signal)
        worn.then(
          (cause) => {
            if (!over.signal.aborted) send({ type: 'worker.worn', cause })
            over.abort()
          },
          () => {},
        )
        return () => over.abort()
      }),
      reset: fromPromise<void, ResetInput>(async ({ input, signal }) => {
        const instance = await launched(slots, input)
        await reset(instance, settings, input.workerId, signal).catch((error: unknown) => fail(error, instance))
      }),
    },
  })
}

/** The instance; the promise stays pending when there is none any more, as `process.exited` tells the worker then. */
function launched(slots: Slots, { workerId }: ProcessInput): Promise<WorkerInstance> {
  return slots.get(workerId)?.launched ?? new Promise(() => {})
}

/**
 * Probes the instance until it fails as often in a row as allowed; stays pending otherwise. A probe that fails while bytes
 * move on the worker's connections does not count: a worker may be too busy serving to answer.
 */
async function watch(
  instance: WorkerInstance,
  { liveness }: PoolSettings,
  clock: Clock,
  signal: AbortSignal,
  activity: () => number,
): Promise<void> {
  if (!instance.check || liveness.interval === 0) return new Promise(() => {})
  let failures = 0
  let seen = activity()
  for (;;) {
    await sleep(clock, liveness.interval, signal)
    try {
      await probe(instance.check.bind(instance), liveness.timeout, clock, signal)
      failures = 0
    } catch (error) {
      signal.throwIfAborted()
      failures = activity() === seen ? failures + 1 : 0
      if (failures >= liveness.failures) fail(error, instance)
    }
    seen = activity()
  }
}

/** One probe with a time limit of its own. */
async function probe(
  check: (signal: AbortSignal) => Promise<void>,
  timeout: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const over = new AbortController()
  const abort = () => over.abort(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  const limit = sleep(clock, timeout, over.signal).then(() => {
    throw new Error(`The worker did not answer its liveness probe within ${timeout} ms`)
  })
  try {
    await Promise.race([check(over.signal), limit])
  } finally {
    signal.removeEventListener('abort', abort)
    limit.catch(() => {})
    over.abort()
  }
}

async function reset(
  instance: WorkerInstance,
  { reset }: PoolSettings,
  workerId: string,
  signal: AbortSignal,
): Promise<void> {
  if (typeof reset === 'function') {
    await reset({ id: workerId, pid: instance.pid, address: instance.address }, signal)
  } else if (reset !== undefined) {
    const hook = `The reset hook POST ${reset}`
    const status = await requestStatus(instance.address, { method: 'POST', path: reset, signal }).catch(
      (cause: Error) => {
        throw new Error(`${hook} was not answered: ${cause.message}`, { cause })
      },
    )
    if (status < 200 || status > 299) throw new Error(`${hook} answered with status ${status}`)
  }
}

/** Adds the worker's last lines to an error, for the failure that the chart makes of it. */
function fail(cause: unknown, instance: WorkerInstance): never {
  const message = cause instanceof Error ? cause.message : String(cause)
  throw Object.assign(new Error(message, { cause }), { output: instance.output?.() ?? [] })
}
