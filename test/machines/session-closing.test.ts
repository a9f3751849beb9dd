import { sessionMachine, type SessionFact } from 'corral/machines'
import { expect, test } from 'vitest'
import { createActor } from 'xstate'

test('a session that closes tells so once, with the first reason', () => {
  const actor = createActor(sessionMachine, { input: { sessionId: 'a', token: 7, grace: 5_000 } })
  const told: SessionFact[] = []
  actor.on('session.closing', (fact) => told.push(fact))
  actor.start()
  actor.send({ type: 'session.end', reason: 'drained' })
  actor.send({ type: 'session.end', reason: 'released', grace: 100 })
  expect(told).toEqual([{ type: 'session.closing', sessionId: 'a', token: 7, reason: 'drained' }])
  actor.send({ type: 'session.disconnected' })
  expect(actor.getSnapshot().output).toEqual({ reason: 'drained' })
})
