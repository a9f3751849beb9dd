import {
  workerMachine,
  type WorkerContext,
  type WorkerFact,
  type WorkerInput,
  type WorkerStatus,
} from 'corral/machines'
import { describe, expect, test } from 'vitest'
import { byTitle, deadEnds, replay, statesOf, transitionsOf, type Step } from './_chart.ts'
import { transcript } from './_transcript.ts'
import { inertWorker, workerPolicy } from './_inert.ts'
import { workerExplorations, workerWalks } from './_worker.ts'

// The walks follow the chart: one that is gone would not be missed.
test('the worker chart has these transitions', () => {
  expect(transitionsOf(workerMachine).toSorted().join('\n')).toMatchSnapshot()
})

test('the walks take every transition of the worker chart', () => {
  expect([...new Set(workerWalks.flatMap(({ transitions }) => transitions))].toSorted()).toEqual(
    transitionsOf(workerMachine).toSorted(),
  )
})

test('the walks reach every state of the worker chart', () => {
  const steps = workerWalks.flatMap(({ input, events }) => replay(inertWorker, input, events))
  const reached = new Set(steps.flatMap(({ snapshot }) => snapshot._nodes.map(({ id }) => id)))
  // `crashed` is left in the same step that enters it.
  const transient = ['worker.crashed']
  expect(
    statesOf(workerMachine)
      .map(({ id }) => id)
      .filter((id) => !reached.has(id)),
  ).toEqual(transient)
})

describe('on the pure machine', () => {
  test('a worker begins without a process, a session or a past', () => {
    const [start] = replay(inertWorker, { id: 'w1', policy: workerPolicy }, [])
    expect(start?.snapshot.context).toEqual({
      id: 'w1',
      policy: workerPolicy,
      incarnation: 0,
      attempt: 1,
      restarts: 0,
      restartDelay: 0,
      process: null,
      lease: null,
      sessions: 0,
      failure: null,
      exit: null,
      reported: 'spawning',
    })
  })

  test.each(byTitle(workerWalks))('%s', (_title, { input, events }) => {
    const steps = replay(inertWorker, input, events)
    checkReports(steps)
    checkSessions(steps)
    for (const step of steps) checkState(step)
    const { reuse } = (input as WorkerInput).policy
    expect(`with reuse '${reuse}'\n${transcript(steps)}`).toMatchSnapshot()
  })
})

test('whatever has happened, the worker can still come to be dead', () => {
  for (const exploration of workerExplorations) expect(deadEnds(inertWorker, exploration)).toEqual([])
})

/** Every report leaves the status that the one before it entered: a pool that adds them up never miscounts. */
function checkReports(steps: Step[]): void {
  let status: WorkerStatus = 'spawning'
  for (const fact of factsOf(steps)) {
    if (!('from' in fact)) continue
    expect(fact.from).toBe(status)
    status = statusOf(fact.type)
  }
}

function statusOf(type: string): WorkerStatus {
  if (type === 'worker.ready') return 'healthy'
  // A crashed worker counts as restarting until it tells that it is dead.
  return type === 'worker.crashed' ? 'restarting' : (type.slice('worker.'.length) as WorkerStatus)
}

/** A session that was bound ends exactly once, and is lost at most once, before that. */
function checkSessions(steps: Step[]): void {
  let bound = 0
  for (const fact of factsOf(steps)) {
    if (fact.type === 'worker.leased') bound++
    if (fact.type === 'session.lost') expect(bound).toBe(1)
    if (fact.type === 'session.ended') bound--
    expect(bound === 0 || bound === 1).toBe(true)
  }
  const last = steps.at(-1)?.snapshot.context as WorkerContext
  expect(bound).toBe(last.lease === null ? 0 : 1)
}

function checkState({ snapshot }: Step): void {
  const context = snapshot.context as WorkerContext
  const isLeased = snapshot.matches({ alive: { serving: 'leased' } })
  expect(context.lease !== null).toBe(isLeased)
  expect(Object.keys(snapshot.children).includes('session')).toBe(isLeased)
  expect(Object.keys(snapshot.children).includes('process')).toBe(snapshot.matches('alive'))
  expect(snapshot.hasTag('available')).toBe(context.reported === 'healthy')
  if (snapshot.status === 'done') {
    expect(snapshot.output).toMatchObject({ reason: context.failure ? 'failed' : 'stopped' })
  }
}

function factsOf(steps: Step[]): WorkerFact[] {
  return steps.flatMap(({ emitted }) => emitted as WorkerFact[])
}
