import { getAdjacencyMap } from '@xstate/graph'
import { childOf, entries, poolMachine, type PoolPolicy } from 'corral/machines'
import { describe, expect, test } from 'vitest'
import { createActor, type AnyEventObject, type AnyMachineSnapshot } from 'xstate'
import { resolveOptions } from '../../src/runtime/options.ts'
import { provideWorker, type Slots } from '../../src/runtime/worker-actors.ts'
import { FakeBackend } from '../support/fake-backend.ts'
import { settled } from '../support/virtual-clock.ts'
import { namesOf, transitionsOf } from './_chart.ts'
import { ManualClock } from './_manual-clock.ts'
import { applyStimulus, startSystem, stimuliOf, systemKey, systemPolicy } from './_system.ts'
import type { Stimulus, System } from './_system.ts'

/** Transitions that no stimulus of these paths causes, and why; the pure walks take them. */
const unreachable: Readonly<Record<string, string>> = {
  'pool on worker.leaseRefused → itself (7)': 'the runtime tells of an exit in a turn of its own, never during a lease',
  'draining on worker.leaseRefused → itself (2)': 'as above',
  'draining on worker.ready → itself (3)': 'a drain stops every worker in the same turn',
  'pool on worker.resetting → itself (8)': 'these workers are reused as they are',
}

interface Exploration {
  readonly policy: PoolPolicy
  /** Leaves out what would make the graph too large. */
  readonly isOf?: (stimulus: Stimulus) => boolean
}

const explorations: Exploration[] = [
  { policy: systemPolicy, isOf: ({ event }) => !/host\.|worker\.worn/.test(event.type) },
  {
    policy: systemPolicy,
    isOf: ({ event }) => /session\.acquire|readiness|actor\.session|worker\.worn|exited/.test(event.type),
  },
  {
    // A pressed host, and no more than the minimum lost and probed for.
    policy: { ...systemPolicy, breaker: { ...systemPolicy.breaker, failures: 1 } },
    isOf: ({ event }) => /session\.acquire|readiness|worker\.drain|exited|cooldown|host\./.test(event.type),
  },
  {
    policy: { ...systemPolicy, pressure: 'refuse' },
    isOf: ({ event }) => /session\.acquire|readiness|host\./.test(event.type),
  },
  {
    // Three idle workers, of which fewer and fewer are beyond need.
    policy: { ...systemPolicy, queueLimit: 3, size: { ...systemPolicy.size, min: 0, max: 3 } },
    isOf: ({ event }) => /session\.acquire|readiness|actor\.session|shrinkAfter/.test(event.type),
  },
]

const paths = explorations.flatMap((exploration) =>
  explore(exploration).map((stimuli) => ({ policy: exploration.policy, stimuli })),
)
const taken = new Set<string>()

describe('a pool on the real runtime does what the pure charts do', () => {
  test.each(chunks(paths, 200))('paths %#', async (...chunk) => {
    for (const { policy, stimuli } of chunk) await compare(policy, stimuli)
  })
})

test('these paths take every transition of the pool chart that something outside can cause', () => {
  const missing = transitionsOf(poolMachine).filter((name) => !taken.has(name))
  expect(missing.toSorted()).toEqual(Object.keys(unreachable).toSorted())
})

/** Every edge of the system's graph, as the shortest sequence of stimuli that ends with it, or goes on after it. */
function explore({ policy, isOf = () => true }: Exploration): Stimulus[][] {
  const logic = {
    transition: (system: System, stimulus: Stimulus) => applyStimulus(system, stimulus),
    getInitialSnapshot: () => startSystem(policy),
    getPersistedSnapshot: (system: System) => system,
  }
  const options = {
    events: (system: System) => stimuliOf(system, policy.size.max).filter(isOf),
    serializeState: systemKey,
    serializeEvent: ({ to, event }: Stimulus) => `${to} ${event.type} ${event['token'] ?? event['workerId'] ?? ''}`,
    limit: 100_000,
  }
  const map = getAdjacencyMap(logic as never, options as never)
  const reached = new Map<string, Stimulus[]>([[systemKey(startSystem(policy)), []]])
  const found: Stimulus[][] = []
  for (const [key, path] of reached) {
    const edges = map[key as never] as { transitions: Record<string, { event: Stimulus; state: System }> } | undefined
    for (const { event, state } of Object.values(edges?.transitions ?? {})) {
      const longer = [...path, event]
      const next = systemKey(state)
      if (reached.has(next) || state.status !== 'active') found.push(longer)
      if (!reached.has(next)) reached.set(next, longer)
    }
  }
  return found
}

async function compare(policy: PoolPolicy, stimuli: readonly Stimulus[]): Promise<void> {
  const runtime = new PoolOnRuntime(policy)
  await runtime.start()
  let system = startSystem(policy)
  expect(runtime.summary()).toEqual(summary(system))
  for (const stimulus of stimuli) {
    system = applyStimulus(system, stimulus)
    await runtime.apply(stimulus)
    expect(runtime.summary(), JSON.stringify(stimuli)).toEqual(summary(system))
  }
  await runtime.end()
}

function summary({ pool, workers }: System): unknown {
  return describeSystem(pool, workers)
}

function describeSystem(pool: AnyMachineSnapshot, workers: Readonly<Record<string, AnyMachineSnapshot>>): unknown {
  const { counts, pendingAdds, idle, queue, failures, unneeded, workers: ids } = pool.context
  const live = Object.entries(workers).filter(([, { status }]) => status === 'active')
  const states = Object.fromEntries(live.map(([id, { value }]) => [id, value]))
  return { value: pool.value, counts, pendingAdds, idle, queue: entries(queue), failures, unneeded, ids, states }
}

/** The pool chart on the runtime's own worker actors, with a backend and a clock that do only what they are told. */
class PoolOnRuntime {
  readonly #backend = new FakeBackend({ ready: false, stops: false, dies: false })
  readonly #clock = new ManualClock()
  readonly #actor

  constructor(policy: PoolPolicy) {
    const slots: Slots = new Map()
    // No other timer has this delay, so it can be told apart.
    this.#backend.liveness.interval = 77
    const worker = provideWorker(resolveOptions({ worker: this.#backend }), slots, this.#clock)
    const machine = poolMachine.provide({ actors: { worker } })
    const names = namesOf(machine)
    this.#actor = createActor(machine, {
      input: { policy },
      clock: this.#clock,
      inspect: (inspection) => {
        if (inspection.type !== '@xstate.microstep') return
        for (const definition of inspection._transitions) {
          const name = names.get(definition)
          if (name !== undefined) taken.add(name)
        }
      },
    })
  }

  async start(): Promise<void> {
    this.#actor.start()
    await settled()
  }

  async apply({ to, event }: Stimulus): Promise<void> {
    if (event.type.startsWith('xstate.after')) this.#clock.fire(this.#delayOf(to, event))
    else if (to === 'pool') this.#actor.send(event as never)
    else await this.#befall(to, event)
    await settled()
  }

  summary(): unknown {
    const snapshot = this.#actor.getSnapshot()
    const children = Object.values(snapshot.children).map((child) => child?.getSnapshot())
    const named = children.map((child) => [child?.context.id, child])
    return describeSystem(snapshot as never, Object.fromEntries(named) as never)
  }

  async end(): Promise<void> {
    this.#actor.stop()
    this.#backend.letGo()
    await settled()
  }

  async #befall(id: string, event: AnyEventObject): Promise<void> {
    const worker = this.#backend.worker(id)
    const session = this.#child(id)?.children.session
    switch (event.type) {
      case 'xstate.done.actor.readiness':
        worker.becomeReady()
        break
      case 'xstate.done.actor.session':
        session?.send({ type: 'session.disconnected' })
        // One that was closing has ended with its last connection.
        if (session?.getSnapshot().status === 'active') session.send({ type: 'session.end', reason: 'released' })
        break
      case 'xstate.error.actor.liveness':
        worker.answers = 'no'
        for (let i = 0; i < this.#backend.liveness.failures; i++) {
          this.#clock.fire(this.#backend.liveness.interval)
          await settled()
        }
        break
      case 'session.closing':
        session?.send({ type: 'session.end', reason: 'released' })
        break
      case 'worker.worn':
        this.#workerOf(id)?.send(event as never)
        break
      case 'process.exited':
        worker.exit({ exitCode: 1 })
        break
      default:
        throw new Error(`no stimulus is known for ${event.type}`)
    }
  }

  #child(workerId: string) {
    return this.#workerOf(workerId)?.getSnapshot()
  }

  #workerOf(workerId: string) {
    const { children, context } = this.#actor.getSnapshot()
    return children[childOf(context.slots, workerId) ?? '']
  }

  #delayOf(to: string, { type }: AnyEventObject): number {
    const { policy } = this.#actor.getSnapshot().context
    if (type.includes('shrinkAfter')) return policy.size.shrinkAfter
    if (type.includes('cooldown')) return policy.breaker.cooldown
    return this.#child(to)?.context.restartDelay ?? Number.NaN
  }
}

function chunks<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size))
}
