import type { HostObserver, HostUsage } from 'corral'

/** A host that is as busy as a test says. */
export class FakeHost implements HostObserver {
  readonly #listeners = new Set<(usage: HostUsage) => void>()

  /** Pools that look at it. */
  get watched(): number {
    return this.#listeners.size
  }

  observe(listener: (usage: HostUsage) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** One sample, of shares from 0 to 1. */
  sample({ cpu = 0, memory = 0 }: { cpu?: number | null; memory?: number }): HostUsage {
    const usage = { cpu, cpus: 2, memory: { used: memory * 1_000, total: 1_000 } }
    for (const listener of this.#listeners) listener(usage)
    return usage
  }
}
