import { TenantLimitError } from './errors.ts'

/** Most of what one tenant may hold; `false`: without limit. */
export interface TenantLimits {
  readonly sessions: number | false
  readonly waiting: number | false
}

interface Account {
  live: number
  waiting: number
}

/** What each tenant holds. It has an account only while it has a session or waits for one; whoever is no tenant has none. */
export class TenantLedger {
  readonly #limits: TenantLimits
  readonly #accounts = new Map<string, Account>()

  constructor(limits: TenantLimits) {
    this.#limits = limits
  }

  /** Tenants that have a session or wait for one. */
  get size(): number {
    return this.#accounts.size
  }

  /**
   * One more session of the tenant waits. With `succeeds` it waits for the end of one that the tenant has, and takes up no
   * more room than that.
   *
   * @throws `TENANT_LIMIT`
   */
  join(tenant: string | undefined, succeeds: boolean): void {
    if (tenant === undefined) return
    const account = this.#accounts.get(tenant) ?? { live: 0, waiting: 0 }
    const { sessions, waiting } = this.#limits
    const held = account.live + account.waiting - (succeeds ? 1 : 0)
    if (sessions !== false && held >= sessions) throw new TenantLimitError(tenant, 'sessions', sessions)
    if (waiting !== false && account.waiting >= waiting) throw new TenantLimitError(tenant, 'waiting', waiting)
    account.waiting++
    this.#accounts.set(tenant, account)
  }

  /** It waits no more: it was granted, refused, or everybody left. */
  leave(tenant: string | undefined): void {
    this.#change(tenant, 0, -1)
  }

  start(tenant: string | undefined): void {
    this.#change(tenant, 1, 0)
  }

  end(tenant: string | undefined): void {
    this.#change(tenant, -1, 0)
  }

  #change(tenant: string | undefined, live: number, waiting: number): void {
    if (tenant === undefined) return
    const account = this.#accounts.get(tenant) ?? { live: 0, waiting: 0 }
    account.live += live
    account.waiting += waiting
    if (account.live === 0 && account.waiting === 0) this.#accounts.delete(tenant)
    else this.#accounts.set(tenant, account)
  }
}
