import {
  createPool,
  type Lease,
  type Pool,
  type PoolEvent,
  type PoolEvents,
  type WearCause,
  type WorkerInfo,
} from 'corral'
import fc from 'fast-check'
import { FakeBackend } from '../support/fake-backend.ts'
import { FakeHost } from '../support/fake-host.ts'
import { wrongCounts } from '../support/scene.ts'
import { settled, VirtualClock } from '../support/virtual-clock.ts'

/** A pool to try: small, so that everything runs into everything. */
export const settings = fc
  .record({
    max: fc.integer({ min: 1, max: 4 }),
    min: fc.integer({ min: 0, max: 4 }),
    warm: fc.integer({ min: 0, max: 2 }),
    startConcurrency: fc.integer({ min: 1, max: 4 }),
    queueLimit: fc.integer({ min: 0, max: 5 }),
    grace: fc.constantFrom(0, 200),
    idleTtl: fc.constantFrom<(number | false)[]>(0, 700, false),
    maxAge: fc.constantFrom<(number | false)[]>(false, 1_500),
    maxLifetime: fc.constantFrom<(number | false)[]>(false, false, 2_000),
    idle: fc.constantFrom<('connections' | 'bytes')[]>('connections', 'bytes'),
    reuse: fc.constantFrom<('never' | 'dirty' | 'reset')[]>('never', 'dirty', 'reset'),
    restartLimit: fc.integer({ min: 0, max: 2 }),
    breakerFailures: fc.integer({ min: 1, max: 3 }),
    tenantSessions: fc.constantFrom<(number | false)[]>(1, 2, 3, false),
    pressure: fc.constantFrom<('wait' | 'refuse')[]>('wait', 'refuse'),
    tenantWaiting: fc.constantFrom<(number | false)[]>(1, 2, false),
  })
  .map((s) => {
    const min = Math.min(s.min, s.max)
    const idle = s.idleTtl === 0 || s.idleTtl === false ? 'connections' : s.idle
    return { ...s, min, warm: Math.min(s.warm, s.max - min), idle }
  })

export type Setting = typeof settings extends fc.Arbitrary<infer T> ? T : never

/** Three ids of one tenant, one of another, one of nobody. */
const tenantOf = (id: string) => (id === 'e' ? undefined : id === 'd' ? 'other' : 'greedy')

/** One call of `acquire`, and what became of it. */
export interface Call {
  readonly id: string
  readonly abort: AbortController
  /** How many sessions had ended or been lost when it was made. */
  readonly over: number
  lease: Lease | undefined
  /** Code of the error that it was rejected with. */
  code: string | undefined
  settlements: number
}

interface Bound {
  readonly sessionId: string
  readonly token: number
  readonly workerId: string
  /** The process that served it when it started. */
  readonly pid: number
  readonly startedAt: number
}

/** A pool, what a test did to it, and what can be said of it from outside. */
export class PoolWorld {
  readonly setting: Setting
  readonly clock = new VirtualClock()
  readonly host = new FakeHost()
  readonly backend: FakeBackend
  readonly calls: Call[] = []
  readonly held: Lease[] = []
  /** What the next reset hook does. */
  resets: 'succeed' | 'fail' | 'hang' = 'succeed'
  /** Whether the test is over and listeners should let the pool rest. */
  isResting = false
  pool!: Pool

  readonly #live = new Map<string, Bound>()
  readonly #ended = new Set<number>()
  readonly #lost = new Set<number>()
  readonly #problems: string[] = []
  /** Tokens of sessions that are over, by the number of those that were before. */
  readonly #over = new Map<number, number>()
  /** Whether the pool drains. */
  #isDraining = false
  /** Processes that may not serve another session. */
  readonly #used = new Set<number>()
  /** Newest token that was served, by tenant. */
  readonly #lastTokens = new Map<string | undefined, number>()
  /** Tokens of sessions that were started in this turn. */
  readonly #turn: { token: number; tenant: string | undefined }[] = []
  /** The newest call, and whether the limits of its tenant refuse it. */
  #predicted: { call: Call; isRefused: boolean } | undefined
  /** When bytes moved last, or a connection was opened, by token. */
  readonly #movedAt = new Map<number, number>()
  /** Workers that are being taken out of service. */
  readonly #draining = new Set<string>()
  /** Ids whose next session waits for the present one to end: others may be served meanwhile. */
  readonly #late = new Set<string>()

  private constructor(setting: Setting, backend: FakeBackend) {
    this.setting = setting
    this.backend = backend
  }

  static async open(setting: Setting, backend = new FakeBackend()): Promise<PoolWorld> {
    const world = new PoolWorld(setting, backend)
    const { min, max, warm, startConcurrency, queueLimit, grace, idleTtl, maxAge, restartLimit } = setting
    world.pool = await createPool({
      worker: world.backend,
      clock: world.clock,
      size: { min, max, warm, startConcurrency, shrinkAfter: 2_000 },
      session: {
        idleTtl,
        idle: setting.idle,
        maxAge,
        maxLifetime: setting.maxLifetime,
        grace,
        reuse: reuseOption(world),
      },
      queue: { limit: queueLimit, timeout: 3_000 },
      host: world.host,
      pressure: { memory: 0.8, resume: 0.5, action: setting.pressure },
      tenant: { sessions: setting.tenantSessions, waiting: setting.tenantWaiting },
      restart: { limit: restartLimit, minDelay: 50, maxDelay: 400 },
      breaker: { failures: setting.breakerFailures, cooldown: 500 },
    })
    world.pool.on('*', (event) => world.#observe(event))
    await settled()
    return world
  }

  acquire(id: string, timeout: number | undefined): Call {
    const call: Call = {
      id,
      abort: new AbortController(),
      over: this.#over.size,
      lease: undefined,
      code: undefined,
      settlements: 0,
    }
    this.calls.push(call)
    const { waiters } = this.pool.stats().queue
    const granted = this.pool.acquire(id, { signal: call.abort.signal, timeout, tenant: tenantOf(id) })
    if (this.#live.has(id) && this.pool.stats().queue.waiters > waiters) this.#late.add(id)
    granted.then(
      (lease) => {
        call.settlements++
        call.lease = lease
        this.held.push(lease)
        this.#movedAt.set(lease.session.token, this.clock.now())
        this.#checkGrant(lease, call)
      },
      (error: { code?: string }) => {
        call.settlements++
        call.code = error.code
      },
    )
    return call
  }

  /** As above, while nothing is on its way: then it can be told whether the tenant may have one more session. */
  acquireAtRest(id: string, timeout: number | undefined): void {
    const isRefused = this.#isOverLimit(id)
    this.#predicted = { call: this.acquire(id, timeout), isRefused }
  }

  /** By what is listed and who waits, and not by the pool's own counts. */
  #isOverLimit(id: string): boolean {
    const tenant = tenantOf(id)
    const waiting = this.#waitingIds()
    const live = this.pool.sessions()
    const present = live.find((session) => session.id === id)
    if (tenant === undefined || this.pool.stats().state !== 'running') return false
    if (waiting.has(id) || (present && present.state !== 'closing')) return false
    const waits = [...waiting].filter((id) => tenantOf(id) === tenant).length
    const held =
      live.filter((session) => session.tenant === tenant).length + waits - (present?.tenant === tenant ? 1 : 0)
    const { tenantSessions, tenantWaiting } = this.setting
    return (tenantSessions !== false && held >= tenantSessions) || (tenantWaiting !== false && waits >= tenantWaiting)
  }

  #waitingIds(): Set<string> {
    return new Set(this.waiting().map(({ id }) => id))
  }

  /** Takes one of the workers out of service; it must be dead when that resolves. */
  drainWorker(at: number, deadline: number): void {
    const workers = this.pool.workers()
    const id = workers[at % Math.max(1, workers.length)]?.id
    if (id === undefined) return
    this.#draining.add(id)
    void this.pool.drainWorker(id, { deadline }).then((wasThere) => {
      if (!wasThere) this.#fail(`${id} was there and could not be drained`)
      this.#draining.delete(id)
      if (this.pool.workers().some((worker) => worker.id === id)) this.#fail(`${id} is drained and there`)
    })
  }

  /** Its process is to be replaced, if it serves. */
  wear(at: number, cause: WearCause): void {
    const { children } = this.pool.actor.getSnapshot()
    const workers = Object.values(children).filter((worker) => worker?.getSnapshot().status === 'active')
    workers[at % Math.max(1, workers.length)]?.send({ type: 'worker.worn', cause })
  }

  /** Bytes move on a connection that is held. */
  touch(lease: Lease): void {
    lease.touch()
    const { token } = lease.session
    // What moves within the grace of a session that is ending comes too late.
    const isEnding = this.pool.sessions().some((session) => session.token === token && session.state === 'closing')
    if (!isEnding) this.#movedAt.set(token, this.clock.now())
  }

  /** The reset of that process did not succeed, or it is worn. */
  spoil(pid: number | undefined): void {
    if (pid !== undefined) this.#used.add(pid)
  }

  waiting(): Call[] {
    return this.calls.filter(({ settlements }) => settlements === 0)
  }

  /** Lets everything that was begun go on, then checks what must hold after every step. */
  async step(): Promise<void> {
    await settled()
    this.check()
  }

  check(): void {
    const stats = this.pool.stats()
    const { workers, sessions, size, queue, totals } = stats
    this.#problems.push(...wrongCounts(stats))
    // 3: live + pendingAdds ≤ max, by the count of processes and not of the pool.
    if (this.backend.peak > size.max) this.#fail(`3: ${this.backend.peak} processes, max ${size.max}`)
    if (workers.total > size.max) this.#fail(`3: ${workers.total} workers`)
    // 4: every acquire settles once.
    for (const { id, settlements } of this.calls)
      if (settlements > 1) this.#fail(`4: ${id} settled ${settlements} times`)
    const waiting = this.waiting()
    if (queue.waiters !== waiting.length) this.#fail(`4: ${queue.waiters} waiters, ${waiting.length} calls that wait`)
    if (queue.sessions !== new Set(waiting.map(({ id }) => id)).size) this.#fail(`5: ${queue.sessions} sessions wait`)
    if (stats.state !== 'running' && waiting.length > 0)
      this.#fail(`4: ${waiting.length} calls wait while the pool drains`)
    for (const call of waiting) if (call.abort.signal.aborted) this.#fail(`4: ${call.id} waits after its abort`)
    // Sessions as told are sessions as counted.
    const live = sessions.active + sessions.idle + sessions.closing
    if (live !== this.#live.size) this.#fail(`${live} live sessions in stats, ${this.#live.size} told`)
    if (workers.leased !== live) this.#fail(`2: ${workers.leased} leased workers, ${live} live sessions`)
    if (totals.sessionsEnded !== this.#ended.size || totals.sessionsLost !== this.#lost.size) this.#fail('totals')
    // 8: a session's worker is alive, and it is the process that the session began on.
    for (const { workerId, pid, sessionId } of this.#live.values()) {
      const worker = this.backend.worker(workerId)
      if (this.backend.hasToldOf(worker)) this.#fail(`8: ${sessionId} is bound to ${workerId}, which is dead`)
      if (worker.pid !== pid) this.#fail(`1: ${sessionId} moved to another process of ${workerId}`)
    }
    // 10: a lease knows whether its own session is over.
    for (const lease of this.held) {
      const { token, id } = lease.session
      if (lease.signal.aborted !== this.#ended.has(token)) this.#fail(`10: signal of ${id} (${token})`)
    }
    const inUse = new Set(this.held.map(({ session }) => session.token).filter((token) => !this.#ended.has(token)))
    if (sessions.active + sessions.closing !== inUse.size) {
      this.#fail(`7: ${JSON.stringify(sessions)} in stats, ${inUse.size} sessions in use`)
    }
    const open = this.held.filter(({ session }) => !this.#ended.has(session.token)).length
    if (stats.leases !== open) this.#fail(`${stats.leases} leases in stats, ${open} held`)
    this.#checkListings()
    this.#checkTenants()
    // Nobody waits while a worker is free.
    if (stats.state === 'running' && stats.pressure === 'relieved' && workers.healthy > 0 && this.#queued() > 0)
      this.#fail('6: waits beside idle workers')
    this.#report()
  }

  /** 9: with nothing held and nothing waiting, every worker is idle and their number is back to `min + warm`. */
  async rest(): Promise<void> {
    this.isResting = true
    this.host.sample({ memory: 0 })
    this.backend.behaviour = { ...this.backend.behaviour, ready: true }
    this.backend.script.length = 0
    this.resets = 'succeed'
    for (const worker of this.backend.alive) worker.becomeReady()
    for (const { abort } of this.waiting()) abort.abort()
    for (const lease of this.held.splice(0)) lease.release()
    const ids = [...this.#live.values()].map(({ sessionId }) => sessionId)
    const ended = Promise.all(ids.map((id) => this.pool.end(id)))
    await this.clock.advance(20_000)
    await ended
    this.check()
    const { state, workers, breaker, size } = this.pool.stats()
    if (state === 'stopped') return
    const expected = Math.min(size.max, size.min + size.warm)
    if (state === 'running' && workers.healthy !== expected) {
      this.#fail(`9: ${JSON.stringify(workers)} at rest, ${expected} expected, breaker ${breaker}`)
    }
    if (workers.total !== workers.healthy) this.#fail(`9: ${JSON.stringify(workers)} at rest`)
    let events = 0
    const off = this.pool.on('*', () => events++)
    await this.clock.advance(5_000)
    off()
    if (events > 0) this.#fail(`9: ${events} events at rest`)
    this.#report()
  }

  /** 11: after `close()` nothing is left. */
  async close(): Promise<void> {
    const closed = this.pool.close()
    // Long enough for every worker that does not heed its stop.
    await this.clock.advance(this.backend.stopGrace + 100)
    let isClosed = false
    void closed.then(() => (isClosed = true))
    await settled()
    if (!isClosed) this.#fail('11: close() does not resolve')
    if (this.backend.alive.length > 0) this.#fail(`11: ${this.backend.alive.length} processes are alive`)
    if (this.host.watched > 0) this.#fail('11: the host is still looked at')
    if (this.clock.pending > 0) this.#fail(`11: ${this.clock.pending} timers are set`)
    if (this.#live.size > 0) this.#fail(`11: ${this.#live.size} sessions have not ended`)
    this.check()
  }

  toString(): string {
    return JSON.stringify(this.setting)
  }

  /** What is listed is what is counted. */
  #checkListings(): void {
    const { workers, sessions, leases } = this.pool.stats()
    const { total, ...states } = workers
    const listed = this.pool.workers()
    if (listed.length !== total) this.#fail(`${listed.length} workers listed, ${total} counted`)
    for (const [state, count] of Object.entries(states)) {
      const found = listed.filter((worker) => worker.state === state).length
      if (found !== count) this.#fail(`${found} workers listed as ${state}, ${count} counted`)
    }
    for (const id of this.#draining)
      if (!listed.some((worker) => worker.id === id)) this.#fail(`${id} is dead, and its drain waits`)
    const live = this.pool.sessions()
    for (const [state, count] of Object.entries(sessions)) {
      const found = live.filter((session) => session.state === state).length
      if (found !== count) this.#fail(`${found} sessions listed as ${state}, ${count} counted`)
    }
    if (live.reduce((sum, session) => sum + session.leases, 0) !== leases) this.#fail('leases listed and counted')
    const { maxLifetime } = this.setting
    for (const { id, token, workerId, startedAt, state } of live) {
      const age = this.clock.now() - startedAt
      if (maxLifetime !== false && age > maxLifetime && state !== 'closing') this.#fail(`${id} is ${age} ms old`)
      if (listed.find((worker) => worker.id === workerId)?.sessionId !== id)
        this.#fail(`1: ${id} is not listed on ${workerId}`)
      if (this.#live.get(id)?.token !== token) this.#fail(`${id} (${token}) is listed and was not told`)
    }
  }

  /** What the pool counts for its tenants is what lives and what waits. */
  #checkTenants(): void {
    const { call, isRefused } = this.#predicted ?? {}
    this.#predicted = undefined
    if (call && (call.code === 'TENANT_LIMIT') !== isRefused) {
      this.#fail(`${call.id}: ${call.code}, ${isRefused ? 'its tenant may have no more' : 'its tenant may have it'}`)
    }
    const waiting = this.#waitingIds()
    const tenants = new Map<string, Set<string>>()
    const live = this.pool.sessions().map(({ id, tenant }) => ({ id, tenant }))
    for (const { id, tenant } of [...live, ...Array.from(waiting, (id) => ({ id, tenant: tenantOf(id) }))]) {
      if (tenant !== undefined) tenants.set(tenant, (tenants.get(tenant) ?? new Set()).add(id))
    }
    const counted = this.pool.stats().tenants
    if (counted !== tenants.size) this.#fail(`${counted} tenants counted, ${tenants.size} have or want something`)
    const { tenantSessions, tenantWaiting } = this.setting
    for (const [tenant, ids] of tenants) {
      const waits = [...ids].filter((id) => waiting.has(id)).length
      if (tenantSessions !== false && ids.size > tenantSessions) this.#fail(`${tenant} has ${ids.size} sessions`)
      if (tenantWaiting !== false && waits > tenantWaiting) this.#fail(`${tenant} waits for ${waits}`)
    }
  }

  #queued(): number {
    return this.waiting().filter(({ id }) => !this.#live.has(id)).length
  }

  #checkGrant(lease: Lease, { id, over }: Call): void {
    const bound = this.#live.get(id)
    if (lease.session.id !== id) this.#fail(`5: a lease on ${lease.session.id} for ${id}`)
    if (bound?.token !== lease.session.token && !this.#ended.has(lease.session.token)) {
      this.#fail(`10: a lease on session ${lease.session.token}, live is ${bound?.token}`)
    }
    const overAt = this.#over.get(lease.session.token)
    if (overAt !== undefined && overAt < over) this.#fail(`8: ${id} was granted on a session that was over`)
    if (bound && bound.token === lease.session.token && bound.workerId !== lease.worker.id) this.#fail(`1: ${id} moved`)
  }

  #observe(event: PoolEvent): void {
    this.#problems.push(...wrongCounts(this.pool.stats()).map((problem) => `${problem} at ${event.type}`))
    if (event.type === 'worker.worn') this.spoil(this.backend.worker(event.workerId).pid)
    if (event.type === 'pool.draining') this.#isDraining = true
    if (event.type === 'session.started') this.#onStarted(event)
    if (event.type === 'session.lost') this.#onLost(event)
    if (event.type === 'session.ended') this.#onEnded(event)
  }

  #onStarted({ sessionId, token, workerId }: PoolEvents['session.started']): void {
    if (this.#live.has(sessionId)) this.#fail(`1: ${sessionId} started twice`)
    if ([...this.#live.values()].some((bound) => bound.workerId === workerId)) this.#fail(`2: ${workerId} serves two`)
    if (!this.#late.delete(sessionId)) this.#noteOrder(token, tenantOf(sessionId))
    if (this.pool.stats().pressure === 'pressed') this.#fail(`${sessionId} starts under pressure`)
    const { pid } = this.backend.worker(workerId)
    if (this.#used.has(pid)) this.#fail(`2: ${workerId} serves again, unreset or worn`)
    if (this.setting.reuse === 'never') this.#used.add(pid)
    this.#live.set(sessionId, { sessionId, token, workerId, pid, startedAt: this.clock.now() })
    this.#movedAt.set(token, this.clock.now())
  }

  /**
   * 6: tokens are given in order of arrival, and those of one tenant are served in it. What is told within one turn was
   * decided in order, but a worker that is in the middle of something takes its lease a little later than others.
   * The pool is not asked for the tenant: a session whose last waiter left while its grant was on its way has none.
   */
  #noteOrder(token: number, tenant: string | undefined): void {
    if (this.#turn.push({ token, tenant }) > 1) return
    queueMicrotask(() => {
      const turn = this.#turn.splice(0)
      const lastOf = (tenant: string | undefined) => this.#lastTokens.get(tenant) ?? 0
      for (const { token, tenant } of turn)
        if (token < lastOf(tenant)) this.#fail(`6: ${token} after ${lastOf(tenant)}`)
      for (const { token, tenant } of turn) this.#lastTokens.set(tenant, Math.max(token, lastOf(tenant)))
    })
  }

  #onLost({ sessionId, token }: PoolEvents['session.lost']): void {
    if (this.#lost.has(token)) this.#fail(`8: ${sessionId} lost twice`)
    if (this.#ended.has(token)) this.#fail(`8: ${sessionId} lost after its end`)
    this.#lost.add(token)
    this.#over.set(token, this.#over.size)
  }

  #onEnded({ sessionId, token, workerId, reason }: PoolEvents['session.ended']): void {
    if (this.#ended.has(token)) this.#fail(`1: ${sessionId} ended twice`)
    if ((reason === 'lost') !== this.#lost.has(token)) this.#fail(`8: ${sessionId} ended as ${reason}`)
    // A session never ends because its worker is worn.
    const isAsked = this.#isDraining || this.#draining.has(workerId)
    if (reason === 'drained' && !isAsked) this.#fail(`${sessionId} is drained, and nobody asked for it`)
    const leases = this.held.filter(({ session }) => session.token === token).length
    // 7: what is in use is not ended for being idle or old, unless that was asked for.
    const { idle, idleTtl, maxLifetime } = this.setting
    const quietFor = this.clock.now() - (this.#movedAt.get(token) ?? 0)
    const age = this.clock.now() - (this.#live.get(sessionId)?.startedAt ?? 0)
    const isQuiet = idle === 'bytes' && idleTtl !== false && quietFor >= idleTtl
    if (reason === 'expired' && leases > 0 && !isQuiet) this.#fail(`7: ${sessionId} expired in use`)
    const isPast = maxLifetime !== false && age >= maxLifetime
    if (reason === 'max-age' && leases > 0 && !isPast) this.#fail(`7: ${sessionId} too old in use`)
    this.#ended.add(token)
    if (!this.#over.has(token)) this.#over.set(token, this.#over.size)
    this.#live.delete(sessionId)
  }

  #fail(problem: string): void {
    this.#problems.push(problem)
  }

  #report(): void {
    if (this.#problems.length > 0) throw new Error(`invariants broken:\n${this.#problems.splice(0).join('\n')}`)
  }
}

function reuseOption(world: PoolWorld) {
  const { reuse } = world.setting
  if (reuse === 'never') return false
  if (reuse === 'dirty') return 'dirty' as const
  const reset = ({ pid }: WorkerInfo): Promise<void> => {
    if (world.resets === 'succeed') return Promise.resolve()
    world.spoil(pid)
    return world.resets === 'fail' ? Promise.reject(new Error('no reset')) : new Promise(() => {})
  }
  return { reset, timeout: 100 }
}
