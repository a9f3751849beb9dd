import { deferred, type Deferred } from './deferred.ts'

interface WorkerDrain {
  /** When its open connections are cut: the nearest deadline that it was given. */
  cutAt: number
  readonly dead: Deferred
}

/** The workers that are being taken out of service, each with who waits for its death. */
export class WorkerDrains {
  readonly #drains = new Map<string, WorkerDrain>()

  /** Adds the worker, or brings its deadline forward. Resolves when it is dead. */
  add(workerId: string, cutAt: number): Promise<void> {
    const drain = this.#drains.get(workerId) ?? { cutAt, dead: deferred() }
    drain.cutAt = Math.min(drain.cutAt, cutAt)
    this.#drains.set(workerId, drain)
    return drain.dead.promise
  }

  /** When the worker's connections are cut; infinite when it is not being taken out of service. */
  cutAt(workerId: string): number {
    return this.#drains.get(workerId)?.cutAt ?? Number.POSITIVE_INFINITY
  }

  /** Those whose connections are cut before `moment`. */
  before(moment: number): string[] {
    return [...this.#drains].filter(([, { cutAt }]) => cutAt < moment).map(([workerId]) => workerId)
  }

  finish(workerId: string): void {
    this.#drains.get(workerId)?.dead.resolve()
    this.#drains.delete(workerId)
  }

  finishAll(): void {
    for (const workerId of this.#drains.keys()) this.finish(workerId)
  }
}
