import type { WorkerInput } from 'corral/machines'
import { expect, test } from 'vitest'
import { createActor, type AnyEventObject } from 'xstate'
import { resolveOptions } from '../../src/runtime/options.ts'
import { provideWorker, type Slots } from '../../src/runtime/worker-actors.ts'
import { FakeBackend, type FakeWorker } from '../support/fake-backend.ts'
import { settled, VirtualClock } from '../support/virtual-clock.ts'
import { byTitle, replay, type Walk } from './_chart.ts'
import { inertWorker, workerPolicy } from './_inert.ts'
import { workerWalks } from './_worker.ts'

/** What the runtime's actors never do: they turn every error into an exit, and the session chart has no error. */
const impossible = ['xstate.error.actor.process', 'xstate.error.actor.session', 'xstate.error.actor.wear']
const isPossible = ({ events }: Walk) => !events.some(({ type }) => impossible.includes(type))

test.each(byTitle(workerWalks.filter(isPossible)))('on the real runtime: %s', async (_title, { input, events }) => {
  const runtime = new WorkerOnRuntime(input as WorkerInput)
  for (const { event, snapshot } of replay(inertWorker, input, events)) {
    await (event ? runtime.apply(event) : runtime.start())
    expect(runtime.value).toEqual(snapshot.value)
  }
  await runtime.end()
})

test('only errors that the runtime never lets happen are left out', () => {
  const left = workerWalks.filter((walk) => !isPossible(walk)).map(({ transitions }) => transitions)
  expect(left.flat().filter((name) => !impossible.some((type) => name.includes(type)))).toEqual([
    // A lost process is a failed start, whose worker is not restarted.
    'crashed on always → dead (1)',
  ])
})

/** A worker chart on the runtime's own actors, whose backend and clock do what the events of a walk say. */
class WorkerOnRuntime {
  readonly #backend = new FakeBackend({ ready: false, stops: false, dies: false })
  readonly #clock = new VirtualClock()
  readonly #slots: Slots = new Map()
  readonly #actor
  #finishReset: { resolve: () => void; reject: (error: Error) => void } | undefined

  constructor(input: WorkerInput) {
    const reset = () => new Promise<void>((resolve, reject) => (this.#finishReset = { resolve, reject }))
    const settings = resolveOptions({ worker: this.#backend, session: { reuse: { reset } } })
    const machine = provideWorker(settings, this.#slots, this.#clock)
    this.#actor = createActor(machine, { input, clock: this.#clock })
  }

  get value(): unknown {
    return this.#actor.getSnapshot().value
  }

  async start(): Promise<void> {
    this.#actor.start()
    await settled()
  }

  async apply(event: AnyEventObject): Promise<void> {
    switch (event.type) {
      case 'worker.lease':
      case 'worker.stop':
      case 'worker.worn':
        this.#actor.send(event as never)
        break
      case 'process.started':
        // The runtime has told by itself, as soon as the launch was done.
        break
      case 'process.exited':
        this.#worker.exit({ exitCode: 1, retry: event['retry'] === true })
        break
      case 'session.closing':
        this.#session?.send({ type: 'session.end', reason: 'released' })
        break
      case 'xstate.done.actor.readiness':
        this.#worker.becomeReady()
        break
      case 'xstate.error.actor.readiness':
        this.#worker.failReadiness()
        break
      case 'xstate.error.actor.liveness':
        this.#worker.answers = 'no'
        await this.#clock.advance(this.#backend.liveness.interval * this.#backend.liveness.failures)
        break
      case 'xstate.done.actor.session':
        this.#session?.send({ type: 'session.disconnected' })
        this.#session?.send({ type: 'session.end', reason: 'released' })
        break
      case 'xstate.done.actor.reset':
        this.#finishReset?.resolve()
        break
      case 'xstate.error.actor.reset':
        this.#finishReset?.reject(new Error('it broke'))
        break
      default:
        await this.#clock.advance(delayOf(event, this.#actor.getSnapshot().context.restartDelay))
    }
    await settled()
  }

  /** Ends whatever is left, and checks that nothing is. */
  async end(): Promise<void> {
    this.#actor.stop()
    this.#backend.letGo()
    await settled()
    expect(this.#backend.alive).toEqual([])
    expect(this.#slots.size).toBe(0)
    expect(this.#clock.pending).toBe(0)
  }

  get #worker(): FakeWorker {
    return this.#backend.worker('w1')
  }

  get #session() {
    return this.#actor.getSnapshot().children['session']
  }
}

function delayOf({ type }: AnyEventObject, restartDelay: number): number {
  const name = type.split('.')[2] ?? ''
  if (name === 'restartDelay') return restartDelay
  const delay = workerPolicy[name as keyof typeof workerPolicy]
  if (typeof delay !== 'number') throw new Error(`a walk has an event that no stimulus is known for: ${type}`)
  return delay
}
