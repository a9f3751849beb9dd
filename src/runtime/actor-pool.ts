import { createActor, type ActorRefFrom } from 'xstate'
import { poolMachine } from '../machines/pool.ts'
import type { PoolFact, Refusal } from '../machines/events.ts'
import { validateAcquire, validateClose, validateDrain, validateId } from './call-options.ts'
import { childOf, childrenOf } from '../machines/slots.ts'
import type { Clock } from './clock.ts'
import { deferred } from './deferred.ts'
import { callSafely, PoolEmitter } from './emitter.ts'
import { HostPressureError, PoolClosedError, QueueFullError, WorkerStartError } from './errors.ts'
import { toLostEvent, toPoolEvent, type PoolEvent, type PoolEventType } from './events.ts'
import type { HostUsage } from './host/observer.ts'
import type { Lease } from './lease.ts'
import { toWorkerDetails, type SessionInfo, type WorkerDetails } from './listing.ts'
import { LiveSessions } from './live-sessions.ts'
import type { PoolSettings } from './options.ts'
import type { AcquireOptions, CloseOptions, DrainOptions, Pool, PoolStats } from './pool.ts'
import { toPressure, weigh } from './pressure.ts'
import { TenantLedger } from './tenant-ledger.ts'
import type { WaitList } from './wait-list.ts'
import { WaitingSessions } from './waiting-sessions.ts'
import { provideWorker, type Slots } from './worker-actors.ts'
import { WorkerDrains } from './worker-drains.ts'

/** The façade over the {@link poolMachine} actor: promises, leases, the directory of sessions, events. */
export class ActorPool implements Pool {
  readonly actor: ActorRefFrom<typeof poolMachine>

  readonly #settings: PoolSettings
  readonly #clock: Clock
  readonly #emitter = new PoolEmitter()
  readonly #slots: Slots = new Map()
  readonly #live: LiveSessions
  readonly #waiting: WaitingSessions
  readonly #running = deferred()
  readonly #stopped = deferred()
  readonly #totals = {
    workersStarted: 0,
    workersCrashed: 0,
    workersOutOfMemory: 0,
    workersWorn: 0,
    resetsFailed: 0,
  }
  readonly #tenants: TenantLedger
  readonly #workerDrains = new WorkerDrains()
  #lastToken = 0
  #host: HostUsage | null = null
  #stopObserving: (() => void) | undefined
  /** When open connections are cut: the nearest deadline that a drain was given. */
  #cutAt = Number.POSITIVE_INFINITY

  constructor(settings: PoolSettings) {
    this.#settings = settings
    this.#clock = settings.clock
    this.#tenants = new TenantLedger(settings.tenantLimits)
    this.#waiting = new WaitingSessions(this.#tenants, settings.clock, (list) => this.#cancel(list))
    this.#live = new LiveSessions(settings, this.#tenants, settings.clock)
    const worker = provideWorker(settings, this.#slots, settings.clock)
    const { inspect } = settings
    this.actor = createActor(poolMachine.provide({ actors: { worker } }), {
      input: { policy: settings.policy },
      clock: settings.clock,
      ...(inspect && { inspect: (event) => callSafely(inspect, event) }),
    })
    this.actor.on('*', (fact) => this.#observe(fact))
    if (settings.onEvent) this.#emitter.on('*', settings.onEvent)
    this.actor.subscribe({ error: (error) => this.#fail(error) })
  }

  async start(): Promise<void> {
    const { signal, forceSignal } = this.#settings
    const giveUp = () => this.#drain(0)
    const kill = () => void this.close({ force: true })
    signal?.addEventListener('abort', giveUp, { once: true })
    forceSignal?.addEventListener('abort', kill, { once: true })
    try {
      await this.#starting()
    } finally {
      signal?.removeEventListener('abort', giveUp)
      forceSignal?.removeEventListener('abort', kill)
    }
  }

  async #starting(): Promise<void> {
    const { signal, forceSignal } = this.#settings
    this.actor.start()
    this.#stopObserving = this.#settings.host?.observe((usage) => {
      this.#host = usage
      this.#weighHost()
    })
    const started = await Promise.race([
      this.#running.promise.then(() => true),
      this.#stopped.promise.then(() => false),
    ])
    if (started && !signal?.aborted && !forceSignal?.aborted) return
    await this.#stopped.promise
    signal?.throwIfAborted()
    forceSignal?.throwIfAborted()
    const { output } = this.actor.getSnapshot()
    throw output?.failure ? new WorkerStartError(output.failure) : new PoolClosedError('POOL_CLOSED')
  }

  acquire(id: string, options?: AcquireOptions): Promise<Lease> {
    const lease = options?.signal?.aborted ? undefined : this.tryAcquire(id)
    return lease ? Promise.resolve(lease) : this.#wait(id, options)
  }

  tryAcquire(id: string): Lease | undefined {
    const record = this.#live.get(id)
    return record?.isOpen ? record.open() : undefined
  }

  async end(id: string): Promise<boolean> {
    validateId(id)
    const record = this.#live.get(id)
    if (!record) return false
    record.end('released')
    await record.ended()
    return true
  }

  stats(): PoolStats {
    const { context } = this.actor.getSnapshot()
    const { workers, counts, pendingAdds, policy } = context
    const { min, max, warm } = policy.size
    const isolation = this.#settings.backend.status?.()
    return {
      state: this.#state(),
      breaker: this.#regions()?.breaker ?? 'closed',
      pressure: this.#regions()?.pressure ?? 'relieved',
      host: this.#host,
      workers: { total: workers.length, spawning: pendingAdds, ...counts },
      pendingAdds,
      size: { min, max, warm },
      sessions: this.#live.counts(),
      leases: this.#live.leases,
      queue: { sessions: this.#waiting.size, waiters: this.#waiting.waiters },
      tenants: this.#tenants.size,
      totals: { ...this.#live.totals, ...this.#totals },
      ...(isolation && { isolation }),
    }
  }

  sessions(): SessionInfo[] {
    return this.#live.list()
  }

  workers(): WorkerDetails[] {
    const { children, context } = this.actor.getSnapshot()
    const ids = childrenOf(context.slots)
    return context.workers.flatMap((id) => {
      const worker = children[ids.get(id) ?? '']
      return worker ? [toWorkerDetails(worker.getSnapshot().context, this.#slots.get(id), this.#clock)] : []
    })
  }

  async drainWorker(id: string, options?: DrainOptions): Promise<boolean> {
    validateId(id)
    const { deadline } = validateDrain(options)
    const { context } = this.actor.getSnapshot()
    if (this.#state() === 'stopped' || !context.workers.includes(id)) return false
    const dead = this.#workerDrains.add(id, Math.min(this.#cutAt, this.#clock.now() + deadline))
    this.#drainWorker(id)
    await dead
    return true
  }

  async drain(options?: DrainOptions): Promise<void> {
    const { deadline } = validateDrain(options)
    this.#drain(deadline)
    await this.#stopped.promise
  }

  async close(options?: CloseOptions): Promise<void> {
    const { force } = validateClose(options)
    this.#drain(0)
    if (force) for (const slot of this.#slots.values()) slot.kill()
    await this.#stopped.promise
  }

  on(type: PoolEventType | '*', listener: (event: never) => void): () => void {
    return this.#emitter.on(type, listener as (event: PoolEvent) => void)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #drain(deadline: number): void {
    if (this.#state() === 'stopped') return
    this.#cutAt = Math.min(this.#cutAt, this.#clock.now() + deadline)
    this.actor.send({ type: 'pool.drain', grace: this.#timeUntil(this.#cutAt) })
    // Each of them was given the pool's deadline just now.
    for (const id of this.#workerDrains.before(this.#cutAt)) this.#drainWorker(id)
  }

  #drainWorker(workerId: string): void {
    const grace = this.#timeUntil(this.#workerDrains.cutAt(workerId))
    this.actor.send({ type: 'worker.drain', workerId, grace })
  }

  #timeUntil(moment: number): number {
    return Math.max(0, Math.ceil(moment - this.#clock.now()))
  }

  async #wait(id: string, options?: AcquireOptions): Promise<Lease> {
    const { signal, timeout = this.#settings.acquireTimeout, tenant } = validateAcquire(id, options)
    signal?.throwIfAborted()
    const state = this.#state()
    if (state !== 'running') throw new PoolClosedError(state === 'draining' ? 'POOL_DRAINING' : 'POOL_CLOSED')
    const list = this.#waiting.get(id) ?? this.#newWaitList(id, tenant)
    const waiter = list.join()
    if (!list.requested && !this.#live.has(id)) this.#request(list)
    // An idle worker is leased within the call above, so most waiters never need a timer.
    if (waiter.isWaiting) list.limit(waiter, { signal, timeout })
    return waiter.promise
  }

  /** @throws `TENANT_LIMIT`, before anything is spent */
  #newWaitList(sessionId: string, tenant: string | undefined): WaitList {
    const before = this.#live.get(sessionId)
    const session = { sessionId, token: ++this.#lastToken, tenant }
    return this.#waiting.add(session, before !== undefined && before.tenant === tenant)
  }

  #request(list: WaitList): void {
    list.requested = true
    const { sessionId, token, tenant } = list
    this.actor.send({ type: 'session.acquire', sessionId, token, tenant })
  }

  #cancel(list: WaitList): void {
    if (list.requested) this.actor.send({ type: 'session.cancel', token: list.token, tenant: list.tenant })
  }

  /** Tells the chart of the host only what changes its state. */
  #weighHost(): void {
    const now = this.#regions()?.pressure
    if (!this.#host || !now) return
    const use = toPressure(this.#host)
    const next = weigh(now, use, this.#settings.pressureMarks)
    if (next !== now) this.actor.send({ type: `host.${next}`, ...use })
  }

  /** Deals with what the actors tell, then tells the listeners. */
  #observe(fact: PoolFact): void {
    switch (fact.type) {
      case 'session.started':
        return this.#onStarted(fact)
      case 'session.refused':
        return this.#onRefused(fact)
      case 'session.closing':
        this.#live.close(fact)
        return
      case 'session.lost':
        return this.#onLost(fact)
      case 'session.ended':
        return this.#onEnded(fact)
      case 'worker.spawning':
        this.#totals.workersStarted++
        break
      case 'worker.crashed':
        this.#totals.workersCrashed++
        if (fact.failure.cause === 'oom') this.#totals.workersOutOfMemory++
        break
      case 'worker.worn':
        this.#totals.workersWorn++
        break
      case 'worker.draining':
        if (fact.failure?.code === 'WORKER_RESET_FAILED') this.#totals.resetsFailed++
        break
      case 'worker.dead':
        this.#workerDrains.finish(fact.workerId)
        break
      case 'pool.draining':
        // The pool refuses whoever it knows to wait; it does not know those who wait for a closing session.
        this.#waiting.refuse((list) => !list.requested, drainingError)
        break
      case 'pool.running':
        this.#running.resolve()
        this.#weighHost()
        return
      case 'pool.stopped':
        // What a listener asked for while the last worker went is in the mailbox, and nobody reads that any more.
        this.#waiting.refuse(() => true, drainingError)
        void this.#finish(fact)
        return
    }
    this.#emit(fact)
  }

  #emit(fact: PoolFact): void {
    const event = toPoolEvent(fact)
    if (event) this.#emitter.emit(event)
  }

  #onStarted(fact: PoolFact & { type: 'session.started' }): void {
    const { sessionId, token, workerId } = fact
    const waiting = this.#waiting.get(sessionId)
    const list = waiting?.token === token ? waiting : undefined
    const { children, context } = this.actor.getSnapshot()
    const session = children[childOf(context.slots, workerId) ?? '']?.getSnapshot().children.session
    const slot = this.#slots.get(workerId)
    if (session?.getSnapshot().status !== 'active' || !slot) return this.#onStillborn(list)
    if (list) this.#waiting.remove(list)
    this.#live.start({ sessionId, token, tenant: list?.tenant }, slot, session, list)
    this.#emit(fact)
  }

  /**
   * The session was over before the news of its start came here: a listener drained the pool in between. Nobody has seen
   * it, so nobody hears of it; whoever waits for it asks again, and is the first of their tenant.
   */
  #onStillborn(list: WaitList | undefined): void {
    if (!list) return
    if (this.#state() === 'running') return this.#request(list)
    this.#waiting.remove(list)
    list.refuse(drainingError)
  }

  #onRefused(refusal: Refusal): void {
    const list = this.#waiting.get(refusal.sessionId)
    if (list?.token !== refusal.token) return
    this.#waiting.remove(list)
    list.refuse(() => this.#refusalError(refusal))
  }

  #onLost(fact: PoolFact & { type: 'session.lost' }): void {
    const event = toLostEvent(fact)
    if (this.#live.lose(fact, event.error)) this.#emitter.emit(event)
  }

  #onEnded(fact: PoolFact & { type: 'session.ended' }): void {
    if (!this.#live.end(fact, fact.reason)) return
    this.#emit(fact)
    const next = this.#waiting.get(fact.sessionId)
    if (next && !next.requested) this.#request(next)
  }

  #refusalError({ code, sessionId, failure }: Refusal): Error {
    if (code === 'HOST_PRESSURE') return new HostPressureError(sessionId)
    if (code === 'QUEUE_FULL') return new QueueFullError(sessionId, this.#settings.policy.queueLimit)
    return failure ? new WorkerStartError(failure) : drainingError()
  }

  /** Every worker is dead: makes sure that nothing of them is left, then lets go of whoever waits for the end. */
  async #finish(fact: PoolFact): Promise<void> {
    await Promise.all([...this.#slots.values()].map((slot) => slot.exit))
    await this.#settings.backend.close?.()
    this.#live.stop()
    this.#stopObserving?.()
    this.#host = null
    this.#workerDrains.finishAll()
    this.#emit(fact)
    this.#stopped.resolve()
  }

  /**
   * The actor system broke, which it must not: kills every process, since stopping a broken actor would leave them, lets
   * go of everybody, and surfaces the error as an uncaught exception.
   */
  #fail(error: unknown): void {
    // The workers outlive their pool: they would restart what is killed here.
    const { children } = this.actor.getSnapshot()
    for (const worker of Object.values(children)) worker?.send({ type: 'worker.stop', grace: 0 })
    for (const slot of this.#slots.values()) slot.kill()
    this.#waiting.refuse(
      () => true,
      () => new PoolClosedError('POOL_CLOSED', { cause: error }),
    )
    this.#live.abandon()
    void this.#finish({ type: 'pool.stopped' })
    callSafely(rethrow, error)
  }

  #state(): PoolStats['state'] {
    const { status, value } = this.actor.getSnapshot()
    if (status !== 'active') return 'stopped'
    return value === 'draining' ? 'draining' : 'running'
  }

  /** What the regions of the running pool are in; `undefined` when it does not run. */
  #regions(): { breaker: PoolStats['breaker']; pressure: PoolStats['pressure'] } | undefined {
    const { value } = this.actor.getSnapshot()
    return typeof value === 'object' ? value.running : undefined
  }
}

function drainingError(): PoolClosedError {
  return new PoolClosedError('POOL_DRAINING')
}

function rethrow(error: unknown): never {
  throw error
}
