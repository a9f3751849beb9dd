import type { Clock } from '../../src/runtime/clock.ts'

/**
 * A clock that stands still until it is told to go on. Timers run one by one, each at its own virtual time, so a timer
 * that is set by another one's callback starts at the right moment.
 */
export class VirtualClock implements Clock {
  #now = 0
  #lastId = 0
  readonly #timers = new Map<number, { at: number; callback: () => void }>()

  now(): number {
    return this.#now
  }

  /** Timers that are set. */
  get pending(): number {
    return this.#timers.size
  }

  /** How long it is until each of them fires, in the order in which they were set. */
  get waits(): number[] {
    return [...this.#timers.values()].map(({ at }) => at - this.#now)
  }

  setTimeout(callback: () => void, delay: number): number {
    if (!(delay >= 0 && delay < 2 ** 31)) throw new RangeError(`a timer would fire at once: ${delay}`)
    this.#timers.set(++this.#lastId, { at: this.#now + delay, callback })
    return this.#lastId
  }

  clearTimeout(id: unknown): void {
    this.#timers.delete(id as number)
  }

  /** Lets `duration` milliseconds pass, and everything that follows from the timers that fire meanwhile. */
  async advance(duration: number): Promise<void> {
    const until = this.#now + duration
    await settled()
    for (let due = this.#next(until); due; due = this.#next(until)) {
      const [id, { at, callback }] = due
      this.#timers.delete(id)
      this.#now = at
      callback()
      await settled()
    }
    this.#now = until
  }

  #next(until: number): [number, { at: number; callback: () => void }] | undefined {
    let first: [number, { at: number; callback: () => void }] | undefined
    for (const timer of this.#timers) if (timer[1].at <= until && (!first || timer[1].at < first[1].at)) first = timer
    return first
  }
}

/** Resolves when every promise that is ready to continue has done so. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
