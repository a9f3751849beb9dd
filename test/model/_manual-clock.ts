import type { Clock } from '../../src/runtime/clock.ts'

/** A clock whose timers fire one by one, when a test says so, whatever the others would have done meanwhile. */
export class ManualClock implements Clock {
  #lastId = 0
  readonly #timers = new Map<number, { delay: number; callback: () => void }>()

  now(): number {
    return 0
  }

  setTimeout(callback: () => void, delay: number): number {
    this.#timers.set(++this.#lastId, { delay, callback })
    return this.#lastId
  }

  clearTimeout(id: unknown): void {
    this.#timers.delete(id as number)
  }

  /** Fires every timer that was set with this delay; there must be one. */
  fire(delay: number): void {
    const due = [...this.#timers].filter(([, timer]) => timer.delay === delay)
    if (due.length === 0) throw new Error(`no timer of ${delay} ms is set`)
    for (const [id, { callback }] of due) if (this.#timers.delete(id)) callback()
  }
}
