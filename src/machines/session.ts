import { assertEvent, assign, enqueueActions, setup } from 'xstate'
import type { SessionCommand, SessionEndReason, SessionFact, SessionKey } from './events.ts'

export interface SessionInput extends SessionKey {
  /** Milliseconds that open connections get when the session is ended. */
  readonly grace: number
}

export interface SessionContext extends SessionInput {
  /** Why the session ends, once it does: the first reason given. */
  readonly reason: SessionEndReason | null
  /** What a later command to end gives to connections that had their grace already. */
  readonly hurry: number
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
      return { reason: event.reason, grace: event.grace ?? context.grace }
    }),
    recordHurry: assign(({ event }) => {
      assertEvent(event, 'session.end')
      return { hurry: event.grace ?? 0 }
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
    hurries: ({ event }) => {
      assertEvent(event, 'session.end')
      return event.grace !== undefined
    },
  },
  delays: {
    grace: ({ context }) => context.grace,
    hurry: ({ context }) => context.hurry,
  },
}).createMachine({
  id: 'session',
  context: ({ input }) => ({ ...input, reason: null, hurry: 0 }),
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
      description: 'Takes no new connections; ends with the last open one, or when the grace has passed.',
      after: { grace: 'ended' },
      on: {
        'session.disconnected': 'ended',
        'session.end': [
          { guard: 'endsNow', target: 'ended' },
          { guard: 'hurries', target: '.hurried', actions: 'recordHurry' },
        ],
      },
      initial: 'patient',
      states: {
        patient: {},
        hurried: {
          description: 'Asked again, with a grace of its own. The first grace still runs: it is never lengthened.',
          after: { hurry: '#session.ended' },
        },
      },
    },
    ended: { type: 'final' },
  },
})
