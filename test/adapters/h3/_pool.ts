import type { AcquireOptions, Lease, Pool, Session, WorkerAddress, WorkerInfo } from 'corral'
import { SessionEndedError, SessionLostError } from 'corral'

/**
 * A pool without processes: every session has the worker at the same address. Counts what the gateway does with its
 * leases, and grants, refuses or ends as the test says.
 */
export class FakePool {
  granted = 0
  released = 0
  touched = 0
  /** Acquire calls that were aborted while they waited. */
  aborted = 0
  readonly acquired: string[] = []
  /** On whose behalf sessions were asked for, in order. */
  readonly tenants: (string | undefined)[] = []
  /** The sessions that were ended, by the gateway or the test. */
  readonly ended: string[] = []
  /** Address of the worker. */
  address: WorkerAddress
  /** Rejects every acquire. */
  refusal: Error | undefined
  readonly #sessions = new Map<string, FakeSession>()
  readonly #waiting: (() => void)[] = []
  #held = false
  #grantsAnyway = false
  #token = 0
  #watchers: (() => void)[] = []

  constructor(address: WorkerAddress) {
    this.address = address
  }

  /** What `createGateway` takes. It uses nothing but `acquire`, `tryAcquire` and `end`. */
  get asPool(): Pool {
    return this as unknown as Pool
  }

  get open(): number {
    return this.granted - this.released
  }

  async acquire(id: string, { signal, tenant }: AcquireOptions = {}): Promise<Lease> {
    this.acquired.push(id)
    this.tenants.push(tenant)
    this.#changed()
    if (this.refusal !== undefined) throw this.refusal
    if (this.#held) await this.#wait(signal)
    const session = this.#sessions.get(id) ?? new FakeSession(id, ++this.#token, this.address)
    this.#sessions.set(id, session)
    return this.#grant(session)
  }

  tryAcquire(id: string): Lease | undefined {
    const session = this.#sessions.get(id)
    if (session?.isOpen !== true || this.#held || this.refusal !== undefined) return undefined
    this.acquired.push(id)
    this.#changed()
    return this.#grant(session)
  }

  #grant(session: FakeSession): Lease {
    this.granted++
    return new FakeLease(this, session)
  }

  /** Lets new acquires wait until {@link grant}; those that are aborted meanwhile are rejected, or granted anyway. */
  hold({ grantsAnyway = false } = {}): void {
    this.#held = true
    this.#grantsAnyway = grantsAnyway
  }

  grant(): void {
    this.#held = false
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  /** The worker of the session dies. */
  lose(id: string): void {
    this.#end(
      id,
      new SessionLostError(id, {
        code: 'WORKER_CRASHED',
        message: 'secret internals',
        exitCode: null,
        signal: 'SIGKILL',
        output: ['secret output'],
      }),
    )
  }

  /** The end of the session begins, and its connections have a while. */
  beginEnd(id: string): void {
    const session = this.#sessions.get(id)
    if (session !== undefined) session.isOpen = false
  }

  end(id: string): void {
    this.ended.push(id)
    this.#end(id, new SessionEndedError(id, 'released'))
  }

  /** Resolves as soon as `condition` holds; it is looked at whenever something happens to a lease. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        this.#watchers.push(resolve)
      })
    }
  }

  /** Resolves once there were leases and all have been given back, with the number of open ones. */
  async idle(): Promise<number> {
    await this.until(() => this.granted > 0 && this.open === 0)
    return this.open
  }

  touch(): void {
    this.touched++
    this.#changed()
  }

  release(): void {
    this.released++
    this.#changed()
  }

  #end(id: string, error: Error): void {
    this.#sessions.get(id)?.controller.abort(error)
    this.#sessions.delete(id)
  }

  #wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push(resolve)
      signal?.addEventListener('abort', () => {
        this.aborted++
        // The abort and the grant can cross.
        if (!this.#grantsAnyway) reject(signal.reason as Error)
        this.#changed()
      })
    })
  }

  #changed(): void {
    for (const resolve of this.#watchers.splice(0)) resolve()
  }
}

class FakeSession implements Session {
  readonly id: string
  readonly token: number
  readonly worker: WorkerInfo
  readonly controller = new AbortController()
  isOpen = true

  constructor(id: string, token: number, address: WorkerAddress) {
    this.id = id
    this.token = token
    this.worker = { id: 'w1', pid: undefined, address }
  }

  get signal(): AbortSignal {
    return this.controller.signal
  }
}

class FakeLease implements Lease {
  readonly session: Session
  readonly #pool: FakePool
  #released = false

  constructor(pool: FakePool, session: Session) {
    this.#pool = pool
    this.session = session
  }

  get worker(): WorkerInfo {
    return this.session.worker
  }

  get signal(): AbortSignal {
    return this.session.signal
  }

  touch(): void {
    this.#pool.touch()
  }

  /** Stricter than the real one: the gateway releases exactly once. */
  release(): void {
    if (this.#released) throw new Error('A lease was released twice')
    this.#released = true
    this.#pool.release()
  }

  [Symbol.dispose](): void {
    this.release()
  }
}
