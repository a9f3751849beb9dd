import { sessionMachine, type SessionCommand } from 'corral/machines'
import { describe, expect, test } from 'vitest'
import { createActor, type AnyEventObject } from 'xstate'
import { VirtualClock } from '../support/virtual-clock.ts'
import { byTitle, deadEnds, findWalks, ownEvents, replay, statesOf, transitionsOf, type Exploration } from './_chart.ts'
import { transcript } from './_transcript.ts'

const input = { sessionId: 'red', token: 7, grace: 100 }
const exploration: Exploration = {
  input,
  events: (snapshot) => [
    { type: 'session.connected' },
    { type: 'session.disconnected' },
    { type: 'session.end', reason: 'released' },
    { type: 'session.end', reason: 'drained', grace: 0 },
    { type: 'session.end', reason: 'drained', grace: 50 },
    ...ownEvents(snapshot).map((type) => ({ type })),
  ],
  stateKey: ({ context }) => context.reason,
}
const walks = findWalks(sessionMachine, [exploration])

// The walks follow the chart: one that is gone would not be missed.
test('the session chart has these transitions', () => {
  expect(transitionsOf(sessionMachine).toSorted().join('\n')).toMatchSnapshot()
})

test('the walks take every transition of the session chart', () => {
  expect([...new Set(walks.flatMap(({ transitions }) => transitions))].toSorted()).toEqual(
    transitionsOf(sessionMachine).toSorted(),
  )
})

test('the walks reach every state of the session chart', () => {
  const steps = walks.flatMap(({ events }) => replay(sessionMachine, input, events))
  const reached = new Set(steps.flatMap(({ snapshot }) => snapshot._nodes.map(({ id }) => id)))
  expect(
    statesOf(sessionMachine)
      .map(({ id }) => id)
      .filter((id) => !reached.has(id)),
  ).toEqual([])
})

describe('on the pure machine', () => {
  test.each(byTitle(walks))('%s', (_title, { events }) => {
    const steps = replay(sessionMachine, input, events)
    let reason: string | null = null
    for (const { event, snapshot, emitted } of steps) {
      if (event?.type === 'session.end') reason ??= event.reason
      expect(snapshot.context.reason).toBe(reason)
      expect(snapshot.status).toBe(snapshot.value === 'ended' ? 'done' : 'active')
      expect(emitted).toEqual(
        event?.type === 'session.end' && snapshot.matches('closing') && isFirstEnd(events, event)
          ? [{ type: 'session.closing', sessionId: 'red', token: 7, reason }]
          : [],
      )
      if (snapshot.value === 'ended') expect(snapshot.output).toEqual({ reason })
    }
    expect(transcript(steps)).toMatchSnapshot()
  })
})

test('whatever has happened, the session can still come to be ended', () => {
  expect(deadEnds(sessionMachine, exploration)).toEqual([])
})

describe('on the real clock of the runtime', () => {
  test.each(byTitle(walks))('%s', async (_title, { events }) => {
    const expected = replay(sessionMachine, input, events)
    const clock = new VirtualClock()
    const actor = createActor(sessionMachine, { input, clock }).start()
    for (const { event, snapshot } of expected) {
      if (event?.type.startsWith('xstate.after')) await clock.advance(actor.getSnapshot().context.allowed)
      else if (event) actor.send(event as SessionCommand)
      expect(actor.getSnapshot().value).toEqual(snapshot.value)
    }
    actor.stop()
    expect(clock.pending).toBe(0)
  })
})

function isFirstEnd(events: readonly AnyEventObject[], event: AnyEventObject): boolean {
  return events.find(({ type }) => type === 'session.end') === event
}
