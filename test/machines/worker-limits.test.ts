import type { WorkerContext, WorkerPolicy } from 'corral/machines'
import { describe, expect, test } from 'vitest'
import type { AnyEventObject } from 'xstate'
import { replay } from '../model/_chart.ts'
import { inertWorker, workerPolicy } from '../model/_inert.ts'

const ready = { type: 'xstate.done.actor.readiness' }
const notReady = { type: 'xstate.error.actor.readiness', error: new Error('not ready') }
const exit = { type: 'process.exited', exitCode: 1, signal: null }
const exitToRetry = { ...exit, retry: true }
const lease = { type: 'worker.lease', sessionId: 'red', token: 1 }
const sessionEnds = { type: 'xstate.done.actor.session', output: { reason: 'released' } }
const backoffEnds = { type: 'xstate.after.restartDelay.worker.restarting' }

/** What the worker has come to after the events, and all that it told on the way. */
function after(policy: Partial<WorkerPolicy>, ...events: AnyEventObject[]) {
  const steps = replay(inertWorker, { id: 'w1', policy: { ...workerPolicy, ...policy } }, events)
  const { snapshot } = steps.at(-1)!
  return {
    value: snapshot.value,
    context: snapshot.context as WorkerContext,
    told: (type: string) => steps.flatMap(({ emitted }) => emitted).filter((fact) => fact.type === type),
  }
}

const spawning = { alive: 'spawning' }

describe('startAttempts', () => {
  test.each([1, 2, 3])(
    'is how many processes are made of which each exits and asks for another: %i',
    (startAttempts) => {
      const exits = Array.from({ length: startAttempts }, () => exitToRetry)
      const last = after({ startAttempts }, ...exits.slice(1))
      expect(last).toMatchObject({ value: spawning, context: { attempt: startAttempts } })
      const { value, told } = after({ startAttempts }, ...exits)
      expect(value).toBe('dead')
      expect(told('worker.crashed')).toMatchObject([{ failure: { code: 'WORKER_START_FAILED' } }])
    },
  )

  test('counts an attempt whose readiness had failed before', () => {
    expect(after({ startAttempts: 2 }, notReady, exitToRetry).value).toEqual(spawning)
    expect(after({ startAttempts: 2 }, notReady, exitToRetry, notReady, exitToRetry).value).toBe('dead')
    expect(after({ startAttempts: 2 }, notReady, exit).value).toBe('dead')
  })

  test('counts anew for every restart', () => {
    const policy = { startAttempts: 2, restartLimit: 1 }
    const restarted = after(policy, exitToRetry, ready, exit, backoffEnds)
    expect(restarted).toMatchObject({ value: spawning, context: { attempt: 1, incarnation: 1 } })
    expect(after(policy, exitToRetry, ready, exit, backoffEnds, exitToRetry).value).toEqual(spawning)
  })

  test('is none that a process has which was ready', () => {
    expect(after({ startAttempts: 2, restartLimit: 0 }, ready, exitToRetry).value).toBe('dead')
    const unhealthy = { type: 'xstate.error.actor.liveness', error: new Error('no answer') }
    expect(after({ startAttempts: 2, restartLimit: 0 }, ready, unhealthy, exitToRetry).value).toBe('dead')
  })
})

describe('restartLimit', () => {
  const crashes = (count: number) =>
    Array.from({ length: count }, () => [ready, exit, backoffEnds])
      .flat()
      .slice(0, -1)

  test.each([0, 1, 3])('is how often a worker starts again that crashes each time: %i', (restartLimit) => {
    const { value, told } = after({ restartLimit }, ...crashes(restartLimit + 1))
    expect(value).toBe('dead')
    expect(told('worker.restarting').map(({ attempt }) => attempt)).toEqual(
      Array.from({ length: restartLimit }, (_, i) => i + 1),
    )
  })

  test('counts anew once a session has ended', () => {
    const policy = { restartLimit: 1, reuse: 'dirty' } as const
    expect(after(policy, ready, exit, backoffEnds, ready, lease, sessionEnds, exit).value).toBe('restarting')
    expect(after(policy, ready, exit, backoffEnds, ready, lease, exit).value).toBe('dead')
  })
})

test('the backoff doubles with every restart up to restartMaxDelay, of which it takes between half and all', () => {
  for (const id of ['w1', 'w2', 'w3', 'w4', 'w5', 'w6', 'w7', 'w8']) {
    const policy = { ...workerPolicy, restartLimit: 6, restartMinDelay: 1_000, restartMaxDelay: 10_000 }
    const events = Array.from({ length: 6 }, () => [ready, exit, backoffEnds]).flat()
    const facts = replay(inertWorker, { id, policy }, events).flatMap(({ emitted }) => emitted)
    const delays = facts.filter(({ type }) => type === 'worker.restarting').map(({ delay }) => delay as number)
    const most = [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]
    expect(delays).toHaveLength(most.length)
    for (const [i, delay] of delays.entries()) {
      expect(delay).toBeGreaterThanOrEqual(most[i]! / 2)
      expect(delay).toBeLessThanOrEqual(most[i]!)
    }
    expect(new Set(delays).size).toBe(delays.length)
  }
})

test('the backoff is chosen anew by each worker, over all of its range', () => {
  const policy = { ...workerPolicy, restartMinDelay: 1_000, restartMaxDelay: 1_000 }
  const delays = Array.from({ length: 200 }, (_, i) => {
    const steps = replay(inertWorker, { id: `w${i}`, policy }, [ready, exit])
    return (steps.at(-1)!.snapshot.context as WorkerContext).restartDelay
  })
  for (const from of [500, 600, 700, 800, 900]) {
    expect(delays.filter((delay) => delay >= from && delay < from + 100).length).toBeGreaterThan(20)
  }
})

test('a crash says whether its process had served a session', () => {
  const policy = { restartLimit: 2, reuse: 'dirty' } as const
  const served = (...events: AnyEventObject[]) =>
    after(policy, ...events)
      .told('worker.crashed')
      .map(({ served }) => served)
  expect(served(ready, exit)).toEqual([false])
  expect(served(ready, lease, exit)).toEqual([true])
  expect(served(ready, lease, sessionEnds, exit)).toEqual([true])
  expect(served(ready, lease, exit, backoffEnds, ready, exit)).toEqual([true, false])
})

describe('recycleSessions', () => {
  test('is how many sessions wear a process that is reused', () => {
    const last = after({ reuse: 'dirty', recycleSessions: 1 }, ready, lease, sessionEnds)
    expect(last.value).toEqual({ alive: 'draining' })
    expect(last.told('worker.worn')).toMatchObject([{ cause: 'sessions' }])
  })

  test('wears none that serves no second session anyway', () => {
    const last = after({ reuse: 'never', recycleSessions: 1 }, ready, lease, sessionEnds)
    expect(last.value).toEqual({ alive: 'draining' })
    expect(last.told('worker.worn')).toEqual([])
  })
})
