import * as z from 'zod'
import { createActor, type ActorRefFrom } from 'xstate'
import { poolMachine } from '../machines/pool.ts'
import type { PoolFact, Refusal, SessionKey } from '../machines/events.ts'
import type { Clock } from './clock.ts'
import { callSafely, PoolEmitter } from './emitter.ts'
import { PoolClosedError, QueueFullError, WorkerStartError } from './errors.ts'
import { toLostEvent, toPoolEvent, type PoolEvent, type PoolEventType } from './events.ts'
import type { Lease } from './lease.ts'
import { resolveOptions, type PoolOptions, type PoolSettings } from './options.ts'
import { SessionRecord } from './session-record.ts'
import { Sweeper } from './sweeper.ts'
import { abortSignal, duration, validate } from './validate.ts'
import { WaitList } from './wait-list.ts'
import { provideWorker, type Slots } from './worker-actors.ts'

/** A pool of workers, one per session. Made by {@link createPool}. */
export interface Pool extends AsyncDisposable {
  /** The root of the actor system, to be watched: its workers are its children, a session is a child of its worker. */
  readonly actor: ActorRefFrom<typeof poolMachine>
  /**
   * Opens a connection on the session `id`: on its worker when the session is live, else on a worker that is bound to
   * the id as soon as one is free. Concurrent calls for one id share one worker.
   *
   * @returns a lease, to be released when the connection closes.
   * @throws `INVALID_OPTION`, `ACQUIRE_TIMEOUT`, `QUEUE_FULL`, `WORKER_START_FAILED`, `WORKER_START_TIMEOUT` (starts
   * keep failing), `POOL_DRAINING`, `POOL_CLOSED`; the signal's reason when `signal` aborts.
   */
  acquire(id: string, options?: AcquireOptions): Promise<Lease>
  /**
   * Opens a connection on the session `id` if it is live, at once and without waiting for anything: the fast path of
   * {@link Pool.acquire}.
   *
   * @returns `undefined` when there is no such session, or it is about to end.
   */
  tryAcquire(id: string): Lease | undefined
  /**
   * Ends the session `id`. With open connections it ends when the last of them closes, at the latest after
   * `session.grace`. An id that only waits for a worker is left alone.
   *
   * @returns whether there was a live session, once it has ended.
   */
  end(id: string): Promise<boolean>
  /** What the pool holds now. Synchronous, and made from counters. */
  stats(): PoolStats
  /**
   * Stops taking new sessions, lets sessions with open connections finish, ends all others, then stops every worker.
   * Waiting calls are refused with `POOL_DRAINING`. Settles like `close()`.
   */
  drain(options?: DrainOptions): Promise<void>
  /**
   * Ends every session now and stops every worker. Resolves once no process that the pool started is left. May be
   * called at any time and more than once; also cuts a `drain` short, and with `force` an earlier `close`.
   */
  close(options?: CloseOptions): Promise<void>
  /**
   * Calls `listener` for every event of `type`, or of every type for `*`, after the pool has dealt with it. A listener
   * that throws does not disturb the pool: the error is reported as an uncaught exception.
   *
   * @returns a function that stops it.
   */
  on<T extends PoolEventType>(type: T, listener: (event: PoolEvent<T>) => void): () => void
  on(type: '*', listener: (event: PoolEvent) => void): () => void
}

export interface AcquireOptions {
  /** Gives up waiting when it aborts. A lease that was granted already stays granted. */
  readonly signal?: AbortSignal | undefined
  /** Longest wait for a worker, in milliseconds; `0` only takes one that is free now. @default `queue.timeout` */
  readonly timeout?: number | undefined
}

export interface DrainOptions {
  /**
   * Time that open connections get before they are cut, in milliseconds. Of several drains the nearest deadline holds.
   *
   * @default 30_000
   */
  readonly deadline?: number | undefined
}

export interface CloseOptions {
  /** Kills the workers instead of asking them to stop first. @default false */
  readonly force?: boolean | undefined
}

export interface PoolStats {
  readonly state: 'running' | 'draining' | 'stopped'
  /** Circuit breaker on starting workers. */
  readonly breaker: 'closed' | 'open' | 'halfOpen'
  /** Workers by state. `total` counts every slot that has a process or will have one again. */
  readonly workers: {
    readonly total: number
    readonly spawning: number
    readonly healthy: number
    readonly leased: number
    readonly resetting: number
    readonly draining: number
    readonly restarting: number
  }
  /** Workers that are being started: `live + pendingAdds ≤ max`. */
  readonly pendingAdds: number
  readonly size: { readonly min: number; readonly max: number; readonly warm: number }
  /** Live sessions by state: `active` with an open connection, `idle` without, `closing` while open ones get their grace. */
  readonly sessions: { readonly active: number; readonly idle: number; readonly closing: number }
  /** Open connections on live sessions. */
  readonly leases: number
  /** Sessions that wait for a worker, and the acquire calls behind them. */
  readonly queue: { readonly sessions: number; readonly waiters: number }
  /** Counts since the pool was made. */
  readonly totals: {
    readonly sessionsStarted: number
    readonly sessionsEnded: number
    readonly sessionsLost: number
    readonly workersStarted: number
    readonly workersCrashed: number
  }
}

/**
 * Makes a pool and starts it. Resolves when `size.min` workers are healthy, which start in parallel.
 *
 * @throws `INVALID_OPTION`; `WORKER_START_FAILED` or `WORKER_START_TIMEOUT` when one of the first workers cannot be
 * started, once everything that was started is stopped again; the reason of `options.signal` when it aborts.
 */
export async function createPool(options: PoolOptions): Promise<Pool> {
  const settings = resolveOptions(options)
  settings.signal?.throwIfAborted()
  const pool = new ActorPool(settings)
  await pool.start()
  return pool
}

const SESSION_ID = 'a session id: text that is not empty'
const acquireOptions = z.strictObject({
  id: z.string(SESSION_ID).min(1, SESSION_ID),
  timeout: duration,
  signal: abortSignal.optional(),
})
const drainOptions = z.strictObject({ deadline: duration.default(30_000) }).default({ deadline: 30_000 })
const closeOptions = z.strictObject({ force: z.boolean().default(false) }).default({ force: false })
const anyOptions = z.record(z.string(), z.unknown()).optional()

class ActorPool implements Pool {
  readonly actor: ActorRefFrom<typeof poolMachine>

  readonly #settings: PoolSettings
  readonly #clock: Clock
  readonly #emitter = new PoolEmitter()
  readonly #slots: Slots = new Map()
  readonly #sweeper: Sweeper
  /** Sessions that are bound to a worker, closing ones included. */
  readonly #live = new Map<string, SessionRecord>()
  readonly #waiting = new Map<string, WaitList>()
  readonly #running = deferred()
  readonly #stopped = deferred()
  readonly #totals = { sessionsStarted: 0, sessionsEnded: 0, sessionsLost: 0, workersStarted: 0, workersCrashed: 0 }
  #lastToken = 0
  #closing = 0
  /** When open connections are cut: the nearest deadline that a drain was given. */
  #cutAt = Number.POSITIVE_INFINITY

  constructor(settings: PoolSettings) {
    this.#settings = settings
    this.#clock = settings.clock
    this.#sweeper = new Sweeper(settings, settings.clock)
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
    const { signal } = this.#settings
    const giveUp = () => this.#drain(0)
    signal?.addEventListener('abort', giveUp, { once: true })
    this.actor.start()
    const started = await Promise.race([
      this.#running.promise.then(() => true),
      this.#stopped.promise.then(() => false),
    ])
    signal?.removeEventListener('abort', giveUp)
    if (started && !signal?.aborted) return
    await this.#stopped.promise
    signal?.throwIfAborted()
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
    let leases = 0
    for (const record of this.#live.values()) leases += record.leases
    let waiters = 0
    for (const list of this.#waiting.values()) waiters += list.size
    const idle = this.#sweeper.size
    return {
      state: this.#state(),
      breaker: this.#breaker(),
      workers: { total: workers.length, spawning: pendingAdds, ...counts },
      pendingAdds,
      size: { min, max, warm },
      sessions: { active: this.#live.size - idle - this.#closing, idle, closing: this.#closing },
      leases,
      queue: { sessions: this.#waiting.size, waiters },
      totals: { ...this.#totals },
    }
  }

  async drain(options?: DrainOptions): Promise<void> {
    const { deadline } = validate(drainOptions, options)
    this.#drain(deadline)
    await this.#stopped.promise
  }

  async close(options?: CloseOptions): Promise<void> {
    const { force } = validate(closeOptions, options)
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
    const now = this.#clock.now()
    this.#cutAt = Math.min(this.#cutAt, now + deadline)
    this.actor.send({ type: 'pool.drain', grace: Math.max(0, Math.ceil(this.#cutAt - now)) })
  }

  async #wait(id: string, options?: AcquireOptions): Promise<Lease> {
    validate(anyOptions, options)
    const { signal, timeout = this.#settings.acquireTimeout } = options ?? {}
    validate(acquireOptions, { ...options, id, timeout })
    signal?.throwIfAborted()
    const state = this.#state()
    if (state !== 'running') throw new PoolClosedError(state === 'draining' ? 'POOL_DRAINING' : 'POOL_CLOSED')
    const list = this.#waiting.get(id) ?? this.#newWaitList(id)
    const waiter = list.join()
    if (!list.requested && !this.#live.has(id)) this.#request(list)
    // An idle worker is leased within the call above, so most waiters never need a timer.
    if (waiter.isWaiting) list.limit(waiter, { signal, timeout })
    return waiter.promise
  }

  #newWaitList(id: string): WaitList {
    const list = new WaitList(id, ++this.#lastToken, this.#clock, (empty) => this.#abandon(empty))
    this.#waiting.set(id, list)
    return list
  }

  #request(list: WaitList): void {
    list.requested = true
    this.actor.send({ type: 'session.acquire', sessionId: list.sessionId, token: list.token })
  }

  /** Nobody waits for the session any more. */
  #abandon(list: WaitList): void {
    if (this.#waiting.get(list.sessionId) === list) this.#waiting.delete(list.sessionId)
    if (list.requested) this.actor.send({ type: 'session.cancel', token: list.token })
  }

  /** Deals with what the actors tell, then tells the listeners. */
  #observe(fact: PoolFact): void {
    switch (fact.type) {
      case 'session.started':
        return this.#onStarted(fact)
      case 'session.refused':
        return this.#onRefused(fact)
      case 'session.closing':
        return this.#onClosing(fact)
      case 'session.lost':
        return this.#onLost(fact)
      case 'session.ended':
        return this.#onEnded(fact)
      case 'worker.spawning':
        this.#totals.workersStarted++
        break
      case 'worker.crashed':
        this.#totals.workersCrashed++
        break
      case 'pool.draining':
        this.#refuseUnrequested()
        break
      case 'pool.running':
        this.#running.resolve()
        return
      case 'pool.stopped':
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
    const session = children[context.slots[workerId] ?? '']?.getSnapshot().children.session
    const slot = this.#slots.get(workerId)
    if (session?.getSnapshot().status !== 'active' || !slot) return this.#onStillborn(list)
    const record = new SessionRecord({ sessionId, token }, slot, session, this.#sweeper, this.#clock.now())
    this.#live.set(sessionId, record)
    this.#totals.sessionsStarted++
    if (list) {
      this.#waiting.delete(sessionId)
      list.grant(() => record.adopt())
    }
    // The last waiter left while the grant was on its way.
    if (record.leases === 0) {
      session.send({ type: 'session.disconnected' })
      record.end('released')
    }
    this.#emit(fact)
  }

  /**
   * The session was over before the news of its start came here: a listener drained the pool in between. Nobody has seen
   * it, so nobody hears of it; whoever waits for it asks again, in their old place.
   */
  #onStillborn(list: WaitList | undefined): void {
    if (!list) return
    if (this.#state() === 'running') return this.#request(list)
    this.#waiting.delete(list.sessionId)
    list.refuse(() => new PoolClosedError('POOL_DRAINING'))
  }

  #onRefused(refusal: Refusal): void {
    const list = this.#waiting.get(refusal.sessionId)
    if (list?.token !== refusal.token) return
    this.#waiting.delete(refusal.sessionId)
    list.refuse(() => this.#refusalError(refusal))
  }

  #onClosing(key: SessionKey): void {
    const record = this.#record(key)
    if (!record) return
    record.phase = 'closing'
    this.#closing++
  }

  /** The pool refuses whoever it knows to wait; it does not know those who wait for a closing session. */
  #refuseUnrequested(): void {
    for (const list of this.#waiting.values()) {
      if (list.requested) continue
      this.#waiting.delete(list.sessionId)
      list.refuse(() => new PoolClosedError('POOL_DRAINING'))
    }
  }

  #onLost(fact: PoolFact & { type: 'session.lost' }): void {
    const record = this.#record(fact)
    if (!record) return
    const event = toLostEvent(fact)
    this.#totals.sessionsLost++
    record.lose(event.error)
    this.#emitter.emit(event)
  }

  #onEnded(fact: PoolFact & { type: 'session.ended' }): void {
    const record = this.#record(fact)
    if (!record) return
    if (record.phase === 'closing') this.#closing--
    this.#live.delete(record.id)
    this.#sweeper.remove(record)
    this.#totals.sessionsEnded++
    record.settle(fact.reason)
    this.#emit(fact)
    const next = this.#waiting.get(record.id)
    if (next && !next.requested) this.#request(next)
  }

  #record({ sessionId, token }: SessionKey): SessionRecord | undefined {
    const record = this.#live.get(sessionId)
    return record?.token === token ? record : undefined
  }

  #refusalError({ code, sessionId, failure }: Refusal): Error {
    if (code === 'QUEUE_FULL') return new QueueFullError(sessionId, this.#settings.policy.queueLimit)
    return failure ? new WorkerStartError(failure) : new PoolClosedError('POOL_DRAINING')
  }

  /** Every worker is dead: makes sure that nothing of them is left, then lets go of whoever waits for the end. */
  async #finish(fact: PoolFact): Promise<void> {
    await Promise.all([...this.#slots.values()].map((slot) => slot.exit))
    this.#sweeper.stop()
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
    for (const list of this.#waiting.values()) list.refuse(() => new PoolClosedError('POOL_CLOSED', { cause: error }))
    this.#waiting.clear()
    for (const record of this.#live.values()) record.settle('lost')
    this.#live.clear()
    void this.#finish({ type: 'pool.stopped' })
    callSafely(rethrow, error)
  }

  #state(): PoolStats['state'] {
    const { status, value } = this.actor.getSnapshot()
    if (status !== 'active') return 'stopped'
    return value === 'draining' ? 'draining' : 'running'
  }

  #breaker(): PoolStats['breaker'] {
    const { value } = this.actor.getSnapshot()
    return typeof value === 'object' ? value.running.breaker : 'closed'
  }
}

function rethrow(error: unknown): never {
  throw error
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve!: () => void
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}
