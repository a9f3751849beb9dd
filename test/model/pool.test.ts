import { poolMachine, type PoolContext, type PoolFact, type PoolInput } from 'corral/machines'
import { describe, expect, test } from 'vitest'
import { byTitle, deadEnds, replay, statesOf, transitionsOf, type Step } from './_chart.ts'
import { transcript } from './_transcript.ts'
import { inertPool } from './_inert.ts'
import { poolExploration, poolWalks } from './_pool.ts'

// The walks follow the chart: one that is gone would not be missed.
test('the pool chart has these transitions', () => {
  expect(transitionsOf(poolMachine).toSorted().join('\n')).toMatchSnapshot()
})

test('the walks take every transition of the pool chart', () => {
  expect([...new Set(poolWalks.flatMap(({ transitions }) => transitions))].toSorted()).toEqual(
    transitionsOf(poolMachine).toSorted(),
  )
})

test('the walks reach every state of the pool chart', () => {
  const steps = poolWalks.flatMap(({ input, events }) => replay(inertPool, input, events))
  const reached = new Set(steps.flatMap(({ snapshot }) => snapshot._nodes.map(({ id }) => id)))
  expect(
    statesOf(poolMachine)
      .map(({ id }) => id)
      .filter((id) => !reached.has(id)),
  ).toEqual([])
})

describe('on the pure machine', () => {
  test.each(byTitle(poolWalks))('%s', (_title, { input, events }) => {
    const steps = replay(inertPool, input, events)
    for (const step of steps) checkState(step, (input as PoolInput).policy.size.max)
    checkSessions(steps)
    expect(transcript(steps)).toMatchSnapshot()
  })
})

test('whatever has happened, the pool can still come to be stopped', () => {
  expect(deadEnds(inertPool, poolExploration)).toEqual([])
})

function checkState({ snapshot }: Step, max: number): void {
  const { workers, idle, counts, pendingAdds, queue } = snapshot.context as PoolContext
  expect(workers.length).toBeLessThanOrEqual(max)
  expect(new Set(workers).size).toBe(workers.length)
  for (const id of idle) expect(workers).toContain(id)
  expect(idle.length).toBeLessThanOrEqual(counts.healthy)
  expect(Math.min(pendingAdds, ...Object.values(counts))).toBeGreaterThanOrEqual(0)
  expect(Object.values(counts).reduce((sum, count) => sum + count, pendingAdds)).toBe(workers.length)
  // Nobody waits while a worker is idle, and nobody waits where nothing will come.
  if (snapshot.matches({ running: { pressure: 'relieved' } })) expect(idle.length > 0 && queue.size > 0).toBe(false)
  if (snapshot.matches({ running: { breaker: 'open' } })) expect(idle.length === 0 && queue.size > 0).toBe(false)
  if (snapshot.matches('draining')) expect(queue.size).toBe(0)
  if (snapshot.status === 'done') expect(workers).toEqual([])
}

/** A session that asked is refused at most once, and never after it was cancelled. */
function checkSessions(steps: Step[]): void {
  const waiting = new Map<number, number>()
  for (const { event, emitted } of steps) {
    if (event?.type === 'session.acquire') waiting.set(event['token'] as number, 1)
    for (const fact of emitted as PoolFact[]) {
      if (fact.type !== 'session.refused') continue
      const left = (waiting.get(fact.token) ?? (event?.type === 'worker.leaseRefused' ? 1 : 0)) - 1
      expect(left).toBeGreaterThanOrEqual(0)
      waiting.set(fact.token, left)
    }
  }
}
