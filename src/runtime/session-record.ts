import { setMaxListeners } from 'node:events'
import type { SessionCommand, SessionEndReason, WaitingSession } from '../machines/events.ts'
import { SessionEndedError, type SessionLostError } from './errors.ts'
import type { Lease, Session, WorkerInfo } from './lease.ts'
import type { Slot } from './slot.ts'

/** Where a session record tells that its session became idle or active. */
export interface IdleObserver {
  /** The first connection opened again. */
  onActive(record: SessionRecord): void
  /** The last connection closed. */
  onIdle(record: SessionRecord): void
}

/** What a record needs of the actor that is its session. */
export interface SessionActor {
  send(command: SessionCommand): void
  getSnapshot(): { readonly status: string; hasTag(tag: 'open'): boolean }
}

/**
 * The directory's record of a live session: counts its open connections and tells the session actor only when the
 * count leaves or reaches zero.
 */
export class SessionRecord implements Session {
  readonly id: string
  readonly token: number
  /** On whose behalf it was opened. */
  readonly tenant: string | undefined
  readonly worker: WorkerInfo
  readonly slot: Slot
  /** When the session started, by the pool's clock. */
  readonly startedAt: number
  /** When the last connection closed, by the pool's clock. */
  idleSince = 0
  /** When the sweeper last saw bytes move, by the pool's clock, and its {@link activity} then. */
  quietSince = 0
  seenActivity = 0
  /** Neighbours in the list of idle sessions, kept by the sweeper. */
  previous: SessionRecord | undefined
  next: SessionRecord | undefined
  leases = 0
  phase: 'open' | 'closing' | 'ended' = 'open'

  /** Connections so far. */
  #opened = 0
  readonly #actor: SessionActor
  readonly #observer: IdleObserver
  #controller: AbortController | undefined
  #lost: SessionLostError | undefined
  #endReason: SessionEndReason = 'released'
  #onEnd: (() => void)[] = []

  constructor(
    { sessionId, token, tenant }: WaitingSession,
    slot: Slot,
    actor: SessionActor,
    observer: IdleObserver,
    now: number,
  ) {
    this.id = sessionId
    this.token = token
    this.tenant = tenant
    this.slot = slot
    this.worker = slot.info()
    this.startedAt = now
    this.#actor = actor
    this.#observer = observer
  }

  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController()
      // All connections of the session share the signal: many listeners are no leak.
      setMaxListeners(0, this.#controller.signal)
      if (this.phase === 'ended') this.#controller.abort(this.#error())
    }
    return this.#controller.signal
  }

  /**
   * Whether the session takes connections. The chart says so, and not {@link phase}: what tells of its end may still
   * be on its way while a listener asks.
   */
  get isOpen(): boolean {
    const snapshot = this.#actor.getSnapshot()
    // A session that its worker took down with it keeps the state it was in.
    return snapshot.status === 'active' && snapshot.hasTag('open')
  }

  /** Grows with every chunk that moves on its worker's connections, and with every connection. */
  get activity(): number {
    return this.slot.activity + this.#opened
  }

  /** A lease for the first connection of a session that has just started: its actor starts as active. */
  adopt(): Lease {
    this.#opened++
    this.leases++
    return new SessionLease(this)
  }

  /** A lease for one more connection. */
  open(): Lease {
    this.#opened++
    if (this.leases++ === 0) {
      this.#observer.onActive(this)
      this.#send({ type: 'session.connected' })
    }
    return new SessionLease(this)
  }

  /** One connection closed. */
  close(): void {
    if (--this.leases > 0 || this.phase === 'ended') return
    this.#send({ type: 'session.disconnected' })
    if (this.isOpen) this.#observer.onIdle(this)
  }

  /** Asks the session to end. */
  end(reason: SessionEndReason): void {
    this.#send({ type: 'session.end', reason })
  }

  /** Resolves when the session has ended. */
  ended(): Promise<void> {
    if (this.phase === 'ended') return Promise.resolve()
    return new Promise((resolve) => this.#onEnd.push(resolve))
  }

  /** Remembers why the session was lost, as the reason that its signal gives. */
  lose(error: SessionLostError): void {
    this.#lost = error
  }

  /** The session is over: aborts its signal and resolves {@link ended}. */
  settle(reason: SessionEndReason): void {
    this.phase = 'ended'
    this.#endReason = reason
    this.#controller?.abort(this.#error())
    for (const resolve of this.#onEnd.splice(0)) resolve()
  }

  /** What tells of the session's end may still be on its way here. */
  #send(command: SessionCommand): void {
    if (this.#actor.getSnapshot().status === 'active') this.#actor.send(command)
  }

  #error(): Error {
    return this.#lost ?? new SessionEndedError(this.id, this.#endReason)
  }
}

/** One open connection. Knows its record and not the id: it cannot reach the next session of that id. */
class SessionLease implements Lease {
  readonly #record: SessionRecord
  #released = false

  constructor(record: SessionRecord) {
    this.#record = record
  }

  get session(): Session {
    return this.#record
  }

  get worker(): WorkerInfo {
    return this.#record.worker
  }

  get signal(): AbortSignal {
    return this.#record.signal
  }

  touch(): void {
    this.#record.slot.activity++
  }

  release(): void {
    if (this.#released) return
    this.#released = true
    this.#record.close()
  }

  [Symbol.dispose](): void {
    this.release()
  }
}
