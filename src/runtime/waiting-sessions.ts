import type { WaitingSession } from '../machines/events.ts'
import type { Clock } from './clock.ts'
import type { TenantLedger } from './tenant-ledger.ts'
import { WaitList } from './wait-list.ts'

/** The sessions that somebody waits for, by id; each counts among what its tenant holds for as long as it is in here. */
export class WaitingSessions {
  readonly #lists = new Map<string, WaitList>()
  readonly #tenants: TenantLedger
  readonly #clock: Clock
  readonly #onAbandoned: (list: WaitList) => void

  /** @param onAbandoned is called when nobody waits for a session any more; its list is not in here then. */
  constructor(tenants: TenantLedger, clock: Clock, onAbandoned: (list: WaitList) => void) {
    this.#tenants = tenants
    this.#clock = clock
    this.#onAbandoned = onAbandoned
  }

  /** Sessions that are waited for. */
  get size(): number {
    return this.#lists.size
  }

  /** Calls that wait for them. */
  get waiters(): number {
    let waiters = 0
    for (const list of this.#lists.values()) waiters += list.size
    return waiters
  }

  get(sessionId: string): WaitList | undefined {
    return this.#lists.get(sessionId)
  }

  /**
   * Opens the list of a session that nobody waits for yet.
   *
   * @param succeeds whether the tenant has a session of that id, for whose end this one waits.
   * @throws `TENANT_LIMIT`, before anything is spent
   */
  add(session: WaitingSession, succeeds: boolean): WaitList {
    this.#tenants.join(session.tenant, succeeds)
    const list = new WaitList(session, this.#clock, (empty) => {
      this.remove(empty)
      this.#onAbandoned(empty)
    })
    this.#lists.set(session.sessionId, list)
    return list
  }

  /** The session waits no more. */
  remove(list: WaitList): void {
    if (this.#lists.get(list.sessionId) !== list) return
    this.#lists.delete(list.sessionId)
    this.#tenants.leave(list.tenant)
  }

  /** Lets everybody go who waits for one of these. */
  refuse(isMeant: (list: WaitList) => boolean, error: () => unknown): void {
    for (const list of this.#lists.values()) {
      if (!isMeant(list)) continue
      this.remove(list)
      list.refuse(error)
    }
  }
}
