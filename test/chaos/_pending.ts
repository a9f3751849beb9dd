import { setTimeout as delay } from 'node:timers/promises'

/** Everything that has to settle, by name. */
export class Pending {
  readonly #names = new Map<symbol, string>()

  /** Keeps an eye on the promise, and returns it. */
  add<T>(name: string, promise: Promise<T>): Promise<T> {
    const key = Symbol('pending')
    this.#names.set(key, name)
    const settled = () => void this.#names.delete(key)
    promise.then(settled, settled)
    return promise
  }

  /** @returns what has not settled in time. */
  async settled(limit: number): Promise<string[]> {
    await until(() => this.#names.size === 0, limit)
    return [...this.#names.values()]
  }
}

/** Polls. The limit, in milliseconds, is for what never comes true. */
export async function until(isTrue: () => boolean, limit: number): Promise<boolean> {
  const deadline = performance.now() + limit
  while (!isTrue()) {
    if (performance.now() > deadline) return false
    await delay(20)
  }
  return true
}
