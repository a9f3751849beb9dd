import type { WaitingSession } from '../machines/events.ts'
import type { Clock } from './clock.ts'
import { AcquireTimeoutError } from './errors.ts'
import type { Lease } from './lease.ts'

export interface WaiterOptions {
  readonly signal: AbortSignal | undefined
  /** Longest wait, in milliseconds. */
  readonly timeout: number
}

/** Everybody who waits for one session: however many they are, they ask the pool for one worker. */
export class WaitList {
  readonly sessionId: string
  readonly token: number
  /** On whose behalf the first of them asked. */
  readonly tenant: string | undefined
  /** Whether the pool was asked; it is not while an older session of the id has yet to end. */
  requested = false

  readonly #waiters = new Set<Waiter>()
  readonly #clock: Clock
  readonly #onEmpty: (list: WaitList) => void

  /** @param onEmpty is called when the last waiter left without a lease. */
  constructor({ sessionId, token, tenant }: WaitingSession, clock: Clock, onEmpty: (list: WaitList) => void) {
    this.sessionId = sessionId
    this.token = token
    this.tenant = tenant
    this.#clock = clock
    this.#onEmpty = onEmpty
  }

  get size(): number {
    return this.#waiters.size
  }

  /** Adds a waiter. Its promise settles exactly once: granted, refused, timed out or aborted. */
  join(): Waiter {
    const waiter = new Waiter(this.#waiters)
    this.#waiters.add(waiter)
    return waiter
  }

  /** Starts the waiter's deadline and heeds its signal; there is no need to for one that was granted at once. */
  limit(waiter: Waiter, { signal, timeout }: WaiterOptions): void {
    const leave = (error: unknown) => {
      if (!waiter.settle()) return
      waiter.reject(error)
      if (this.#waiters.size === 0) this.#onEmpty(this)
    }
    const onTimeout = () => leave(new AcquireTimeoutError(this.sessionId, timeout))
    const onAbort = () => leave(signal?.reason)
    // A listener may have aborted it while the pool was asked.
    if (signal?.aborted) return onAbort()
    // When a listener calls, the pool leases a free worker only once it has dealt with what it is telling.
    if (timeout === 0) return queueMicrotask(onTimeout)
    const timer = this.#clock.setTimeout(onTimeout, timeout)
    signal?.addEventListener('abort', onAbort)
    waiter.release = () => {
      this.#clock.clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
    }
  }

  grant(lease: () => Lease): void {
    for (const waiter of this.#waiters) if (waiter.settle()) waiter.resolve(lease())
  }

  refuse(error: () => unknown): void {
    for (const waiter of this.#waiters) if (waiter.settle()) waiter.reject(error())
  }
}

/** One call of `acquire` that waits. */
export class Waiter {
  readonly promise: Promise<Lease>
  resolve!: (lease: Lease) => void
  reject!: (error: unknown) => void
  /** Lets go of the timer and the signal. */
  release: (() => void) | undefined

  readonly #waiters: Set<Waiter>

  constructor(waiters: Set<Waiter>) {
    this.#waiters = waiters
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
    })
  }

  get isWaiting(): boolean {
    return this.#waiters.has(this)
  }

  /** Takes the waiter off the list; `false` when it is off already. */
  settle(): boolean {
    if (!this.#waiters.delete(this)) return false
    this.release?.()
    return true
  }
}
