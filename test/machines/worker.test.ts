import { workerMachine, type WorkerFact, type WorkerPolicy } from 'corral/machines'
import { describe, expect, test } from 'vitest'
import { createActor, fromCallback, fromPromise, type EventObject } from 'xstate'
import { FakeBackend } from '../support/fake-backend.ts'
import { settled, VirtualClock } from '../support/virtual-clock.ts'
import { resolveOptions } from '../../src/runtime/options.ts'
import { provideWorker } from '../../src/runtime/worker-actors.ts'

const policy: WorkerPolicy = {
  startTimeout: 1_000,
  startAttempts: 1,
  stopGrace: 100,
  reuse: 'never',
  resetTimeout: 100,
  recycleSessions: 0,
  sessionGrace: 0,
  restartLimit: 0,
  restartMinDelay: 1,
  restartMaxDelay: 1,
}

function startWorker(machine: typeof workerMachine, rules: Partial<WorkerPolicy> = {}) {
  const facts: WorkerFact[] = []
  const actor = createActor(machine, {
    input: { id: 'w1', policy: { ...policy, ...rules } },
    clock: new VirtualClock(),
  })
  actor.on('*', (fact) => facts.push(fact as WorkerFact))
  actor.start()
  return { actor, facts }
}

/** Actors that do what they must; but for one, which the chart is left with as it is. */
function actorsWithout(missing: string) {
  const all = {
    process: fromCallback<EventObject>(({ sendBack, receive }) => {
      receive(() => sendBack({ type: 'process.exited', exitCode: null, signal: 'SIGKILL' }))
    }),
    readiness: fromPromise(() => Promise.resolve()),
    liveness: fromPromise(() => new Promise<void>(() => {})),
    reset: fromPromise(() => Promise.resolve()),
  }
  return Object.fromEntries(Object.entries(all).filter(([name]) => name !== missing)) as never
}

describe('the worker chart', () => {
  test('fails clearly when an actor was not provided', async () => {
    const { actor, facts } = startWorker(workerMachine)
    await settled()
    expect(actor.getSnapshot().status).toBe('done')
    expect(JSON.stringify(facts)).toMatch(/the actor \\"process\\" is not provided/u)
  })

  test.each(['readiness', 'liveness'] as const)('names the actor that was not provided: %s', async (missing) => {
    const { facts } = startWorker(workerMachine.provide({ actors: actorsWithout(missing) }))
    await settled()
    expect(JSON.stringify(facts)).toContain(`the actor \\"${missing}\\" is not provided`)
  })

  test('names the actor that was not provided once it is wanted: reset', async () => {
    const { actor, facts } = startWorker(workerMachine.provide({ actors: actorsWithout('reset') }), { reuse: 'reset' })
    await settled()
    actor.send({ type: 'worker.lease', sessionId: 'a', token: 1 })
    actor.getSnapshot().children.session?.send({ type: 'session.end', reason: 'released', grace: 0 })
    await settled()
    expect(JSON.stringify(facts)).toContain('the actor \\"reset\\" is not provided')
  })

  test('needs no pool: it emits its facts', async () => {
    const clock = new VirtualClock()
    const settings = resolveOptions({ worker: new FakeBackend(), clock, session: { grace: 0 } })
    const slots = new Map()
    const actor = createActor(provideWorker(settings, slots, clock), {
      input: { id: 'w1', policy: settings.policy.worker },
      clock,
    })
    const facts: string[] = []
    actor.on('*', ({ type }) => facts.push(type))
    actor.start()
    await settled()
    actor.send({ type: 'worker.lease', sessionId: 'a', token: 1 })
    actor.send({ type: 'worker.lease', sessionId: 'b', token: 2 })
    actor.send({ type: 'worker.stop' })
    await settled()
    expect(facts).toEqual([
      'worker.spawning',
      'worker.ready',
      'worker.leased',
      'worker.leaseRefused',
      'session.ended',
      'worker.draining',
      'worker.dead',
    ])
    expect(actor.getSnapshot().output).toMatchObject({ reason: 'stopped', exitCode: 0 })
    expect(slots.size).toBe(0)
    expect(clock.pending).toBe(0)
  })
})

test('the runtime provides every actor that the worker chart leaves open', () => {
  const settings = resolveOptions({ worker: new FakeBackend() })
  const provided = Object.entries(provideWorker(settings, new Map(), new VirtualClock()).implementations.actors)
  const placeholders = new Map<string, unknown>(Object.entries(workerMachine.implementations.actors))
  expect(provided.map(([name]) => name).sort()).toEqual([...placeholders.keys()].sort())
  for (const [name, actor] of provided) {
    if (name !== 'session') expect(actor, name).not.toBe(placeholders.get(name))
  }
})
