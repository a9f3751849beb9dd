import type { SessionEndReason, SessionKey, WaitingSession } from '../machines/events.ts'
import type { Clock } from './clock.ts'
import type { SessionLostError } from './errors.ts'
import { toSessionInfo, type SessionInfo } from './listing.ts'
import type { PoolStats } from './pool.ts'
import { SessionRecord, type SessionActor } from './session-record.ts'
import type { Slot } from './slot.ts'
import { Sweeper, type SweeperOptions } from './sweeper.ts'
import type { TenantLedger } from './tenant-ledger.ts'
import type { WaitList } from './wait-list.ts'

/**
 * The sessions that are bound to a worker, closing ones included, by id; each counts among what its tenant holds for as
 * long as it is in here.
 */
export class LiveSessions {
  readonly #records = new Map<string, SessionRecord>()
  readonly #sweeper: Sweeper
  readonly #tenants: TenantLedger
  readonly #clock: Clock
  #closing = 0
  readonly #totals = { sessionsStarted: 0, sessionsEnded: 0, sessionsLost: 0 }

  constructor(options: SweeperOptions, tenants: TenantLedger, clock: Clock) {
    this.#sweeper = new Sweeper(options, clock)
    this.#tenants = tenants
    this.#clock = clock
  }

  get(id: string): SessionRecord | undefined {
    return this.#records.get(id)
  }

  has(id: string): boolean {
    return this.#records.has(id)
  }

  /** Open connections. */
  get leases(): number {
    let leases = 0
    for (const record of this.#records.values()) leases += record.leases
    return leases
  }

  get totals(): Pick<PoolStats['totals'], 'sessionsStarted' | 'sessionsEnded' | 'sessionsLost'> {
    return this.#totals
  }

  counts(): PoolStats['sessions'] {
    const idle = this.#sweeper.size
    return { active: this.#records.size - idle - this.#closing, idle, closing: this.#closing }
  }

  list(): SessionInfo[] {
    return Array.from(this.#records.values(), (record) => toSessionInfo(record, this.#clock))
  }

  /** A worker is bound to it. Whoever waits in `list` is granted a lease; when nobody does any more, it ends. */
  start(session: WaitingSession, slot: Slot, actor: SessionActor, list: WaitList | undefined): void {
    const record = new SessionRecord(session, slot, actor, this.#sweeper, this.#clock.now())
    this.#records.set(record.id, record)
    this.#tenants.start(record.tenant)
    this.#totals.sessionsStarted++
    list?.grant(() => record.adopt())
    this.#sweeper.add(record)
    // The last waiter left while the grant was on its way.
    if (record.leases === 0) {
      actor.send({ type: 'session.disconnected' })
      record.end('released')
    }
  }

  /** Its connections get their grace. */
  close(key: SessionKey): void {
    const record = this.#find(key)
    if (!record) return
    record.phase = 'closing'
    this.#closing++
  }

  /**
   * Its worker died under it: its end, which follows, has this reason.
   *
   * @returns `false` when nobody has seen that session: it was over before the news of its start came
   */
  lose(key: SessionKey, error: SessionLostError): boolean {
    const record = this.#find(key)
    if (!record) return false
    this.#totals.sessionsLost++
    record.lose(error)
    return true
  }

  /** It is over. @returns as {@link lose} does */
  end(key: SessionKey, reason: SessionEndReason): boolean {
    const record = this.#find(key)
    if (!record) return false
    if (record.phase === 'closing') this.#closing--
    this.#records.delete(record.id)
    this.#tenants.end(record.tenant)
    this.#sweeper.remove(record)
    this.#totals.sessionsEnded++
    record.settle(reason)
    return true
  }

  /** Nothing will tell of their ends any more. */
  abandon(): void {
    for (const record of this.#records.values()) {
      this.#tenants.end(record.tenant)
      record.settle('lost')
    }
    this.#records.clear()
    this.#closing = 0
  }

  /** Sets no timer any more. */
  stop(): void {
    this.#sweeper.stop()
  }

  /** The one that was told of, unless another session of that id has taken its place. */
  #find({ sessionId, token }: SessionKey): SessionRecord | undefined {
    const record = this.#records.get(sessionId)
    return record?.token === token ? record : undefined
  }
}
