import { assign, enqueueActions, setup } from 'xstate'
import type { SessionCommand, SessionEndReason, SessionFact, SessionKey } from './events.ts'

export interface SessionInput extends SessionKey {
  /** Milliseconds that open connections get when the session is ended. */
  readonly grace: number
}

export interface SessionContext extends SessionInput {
  /** Why the session ends, once it does: the first reason given. */
  readonly reason: SessionEndReason | null
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
  },
  actions: {
    recordEnd: assign(({ context, event }) =>
      event.type === 'session.end' ? { reason: event.reason, grace: event.grace ?? context.grace } : {},
    ),
    changeGrace: assign(({ context, event }) =>
      event.type === 'session.end' ? { grace: event.grace ?? context.grace } : {},
    ),
    reportClosing: enqueueActions(({ context, enqueue, self }) => {
      const { sessionId, token, reason } = context
      const fact: SessionFact = { type: 'session.closing', sessionId, token, reason: reason ?? 'released' }
      enqueue.emit(fact)
      if (self._parent) enqueue.sendTo(self._parent, fact)
    }),
  },
  guards: {
    endsNow: ({ context, event }) => event.type === 'session.end' && (event.grace ?? context.grace) === 0,
    changesGrace: ({ event }) => event.type === 'session.end' && event.grace !== undefined,
  },
  delays: {
    grace: ({ context }) => context.grace,
  },
}).createMachine({
  id: 'session',
  context: ({ input }) => ({ ...input, reason: null }),
  output: ({ context }) => ({ reason: context.reason ?? 'released' }),
  initial: 'active',
  states: {
    active: {
      on: {
        'session.disconnected': 'idle',
        'session.end': [
          { guard: 'endsNow', target: 'ended', actions: 'recordEnd' },
          { target: 'closing', actions: ['recordEnd', 'reportClosing'] },
        ],
      },
    },
    idle: {
      on: {
        'session.connected': 'active',
        'session.end': { target: 'ended', actions: 'recordEnd' },
      },
    },
    closing: {
      description: 'Takes no new connections; ends with the last open one, or when the grace has passed.',
      after: { grace: 'ended' },
      on: {
        'session.disconnected': 'ended',
        'session.end': [
          { guard: 'endsNow', target: 'ended' },
          { guard: 'changesGrace', target: 'closing', reenter: true, actions: 'changeGrace' },
        ],
      },
    },
    ended: { type: 'final' },
  },
})
