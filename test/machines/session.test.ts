import { sessionMachine, type SessionCommand } from 'corral/machines'
import { describe, expect, test } from 'vitest'
import { initialTransition, transition } from 'xstate'

const input = { sessionId: 'a', token: 1, grace: 5_000 }

function after(commands: SessionCommand[], more: Partial<typeof input> = {}) {
  let [snapshot] = initialTransition(sessionMachine, { ...input, ...more })
  for (const command of commands) [snapshot] = transition(sessionMachine, snapshot, command)
  return snapshot
}

const end: SessionCommand = { type: 'session.end', reason: 'released' }
const disconnected: SessionCommand = { type: 'session.disconnected' }
const connected: SessionCommand = { type: 'session.connected' }

describe('the session chart', () => {
  test('begins active: somebody asked for it', () => {
    expect(after([]).value).toBe('active')
  })

  test('is idle while no connection is open', () => {
    expect(after([disconnected]).value).toBe('idle')
    expect(after([disconnected, connected]).value).toBe('active')
  })

  test('ends at once when it is idle, with the reason that it was given', () => {
    const ended = after([disconnected, { type: 'session.end', reason: 'expired' }])
    expect(ended).toMatchObject({ status: 'done', value: 'ended', output: { reason: 'expired' } })
  })

  test('closes first when a connection is open, and ends with it', () => {
    expect(after([end]).value).toEqual('closing')
    expect(after([end, connected]).value).toEqual('closing')
    expect(after([end, disconnected])).toMatchObject({ status: 'done', output: { reason: 'released' } })
  })

  test('ends at once with a grace of 0, its own or the one given', () => {
    expect(after([end], { grace: 0 }).status).toBe('done')
    expect(after([{ ...end, grace: 0 }]).status).toBe('done')
    expect(after([{ ...end, grace: 10 }], { grace: 0 }).value).toEqual('closing')
  })

  test('keeps the first reason', () => {
    const again: SessionCommand = { type: 'session.end', reason: 'drained', grace: 0 }
    expect(after([end, again])).toMatchObject({ status: 'done', output: { reason: 'released' } })
  })

  test('asked again while it closes, ends by the grace that is over first', () => {
    const sooner = transition(sessionMachine, after([{ ...end, grace: 100 }]), { ...end, grace: 50 })
    expect(sooner).toMatchObject([
      { value: 'closing', context: { allowed: 50 } },
      [{ type: 'xstate.raise', params: { delay: 50 } }],
    ])
    const [, ownGrace] = transition(sessionMachine, after([{ ...end, grace: 5000 }], { grace: 40 }), end)
    expect(ownGrace).toMatchObject([{ type: 'xstate.raise', params: { delay: 40, event: { ...end, grace: 0 } } }])
    for (const grace of [undefined, 200, 5000]) {
      expect(transition(sessionMachine, after([end], { grace: 200 }), { ...end, grace })[1]).toEqual([])
    }
  })
})
