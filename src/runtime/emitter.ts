import { validateListener } from './call-options.ts'
import type { PoolEvent, PoolEventType } from './events.ts'

type Listener = (event: PoolEvent) => void

/** Listeners by event type. One that throws disturbs nobody: its error surfaces as an uncaught exception. */
export class PoolEmitter {
  readonly #listeners = new Map<PoolEventType | '*', Set<Listener>>()

  /** @throws `INVALID_OPTION` */
  on(type: PoolEventType | '*', listener: Listener): () => void {
    validateListener(type, listener)
    const listeners = this.#listeners.get(type) ?? new Set()
    this.#listeners.set(type, listeners)
    // A wrapper of its own, so that registering one function twice calls it twice.
    const entry: Listener = (event) => listener(event)
    listeners.add(entry)
    return () => listeners.delete(entry)
  }

  emit(event: PoolEvent): void {
    for (const listener of this.#listeners.get(event.type) ?? []) callSafely(listener, event)
    for (const listener of this.#listeners.get('*') ?? []) callSafely(listener, event)
  }
}

/** Calls somebody else's function from inside the pool, where an exception would break an actor. */
export function callSafely<T>(listener: (argument: T) => void, argument: T): void {
  try {
    listener(argument)
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}
