import { assertEvent, assign, enqueueActions, raise, setup } from 'xstate'
import type { SessionCommand, SessionEndReason, SessionFact, SessionKey } from './events.ts'

export interface SessionInput extends SessionKey {
  /** Milliseconds that open connections get when the session is ended. */
  readonly grace: number
}

export interface SessionContext extends SessionInput {
  /** Why the session ends, once it does: the first reason given. */
  readonly reason: SessionEndReason | null
  /** Milliseconds that open connections get, once it ends: the least that a command to end has given them. */
  readonly allowed: number
}

export interface SessionOutput {
  readonly reason: SessionEndReason
}

/**
 * One session: `active` while a connection is open, `idle` while none is, `closing` while open connections get their
 * grace, then `ended`. It starts `active`, because somebody asked for it. A worker invokes it while it is leased, so it
 * can neither outlive its worker nor move to another one.
 */
export const sessionMachine = setup({
  types: {
    context: {} as SessionContext,
    input: {} as SessionInput,
    output: {} as SessionOutput,
    events: {} as SessionCommand,
    emitted: {} as SessionFact,
    tags: {} as 'open',
  },
  actions: {
    recordEnd: assign(({ context, event }) => {
      assertEvent(event, 'session.end')
      return { reason: event.reason, allowed: event.grace ?? context.grace }
    }),
    allowLess: assign(({ context, event }) => {
      assertEvent(event, 'session.end')
      return { allowed: event.grace ?? context.grace }
    }),
    endLater: raise(({ context }) => ({ type: 'session.end', reason: context.reason ?? 'released', grace: 0 }), {
      delay: 'allowed',
    }),
    reportClosing: enqueueActions(({ context, enqueue, self }) => {
      const { sessionId, token, reason } = context
      const fact: SessionFact = { type: 'session.closing', sessionId, token, reason: reason ?? 'released' }
      enqueue.emit(fact)
      if (self._parent) enqueue.sendTo(self._parent, fact)
    }),
  },
  guards: {
    endsNow: ({ context, event }) => {
      assertEvent(event, 'session.end')
      return (event.grace ?? context.grace) === 0
    },
    /** What gives no less than another one that came before it cannot be over sooner. */
    allowsLess: ({ context, event }) => {
      assertEvent(event, 'session.end')
      return (event.grace ?? context.grace) < context.allowed
    },
  },
  delays: {
    allowed: ({ context }) => context.allowed,
  },
}).createMachine({
  id: 'session',
  context: ({ input }) => ({ ...input, reason: null, allowed: input.grace }),
  output: ({ context }) => ({ reason: context.reason ?? 'released' }),
  initial: 'active',
  states: {
    active: {
      tags: 'open',
      on: {
        'session.disconnected': 'idle',
        'session.end': [
          { guard: 'endsNow', target: 'ended', actions: 'recordEnd' },
          { target: 'closing', actions: ['recordEnd', 'reportClosing'] },
        ],
      },
    },
    idle: {
      tags: 'open',
      on: {
        'session.connected': 'active',
        'session.end': { target: 'ended', actions: 'recordEnd' },
      },
    },
    closing: {
      description:
        'Takes no new connections; ends with the last open one, or when the grace has passed. Asked again, it ends by the grace that is over first.',
      after: { allowed: 'ended' },
      on: {
        'session.disconnected': 'ended',
        'session.end': [
          { guard: 'endsNow', target: 'ended' },
          { guard: 'allowsLess', actions: ['allowLess', 'endLater'] },
        ],
      },
    },
    ended: { type: 'final' },
  },
})
