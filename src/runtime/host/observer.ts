import { callSafely } from '../emitter.ts'
import { findCgroups } from './cgroups.ts'
import { cpusOf, readCpu, shareBetween, type CpuReading } from './cpu.ts'
import { readMemory, type MemoryUsage } from './memory.ts'

/** What this process may use of its host, and how much of that is in use: by everybody, not by this process alone. */
export interface HostUsage {
  /** Busy share of {@link cpus} over the last 5 s, 0 to 1; `null` until that can be told. */
  readonly cpu: number | null
  /** CPUs that this process may keep busy, by its affinity and its cgroups' quotas: not always a whole number. */
  readonly cpus: number
  /** Memory in bytes, of the machine or of the cgroup whose limit is nearest. */
  readonly memory: MemoryUsage
}

/** What looks at the host. One can serve any number of pools. */
export interface HostObserver {
  /**
   * Calls `listener` with every sample that is taken from now on.
   *
   * @returns a function that stops it. An observer with no listeners has to rest.
   */
  observe(listener: (usage: HostUsage) => void): () => void
}

export interface SamplerOptions {
  /** Root of the file system. @default '/' */
  readonly root?: string
  /** Time between two samples, in milliseconds. @default 1_000 */
  readonly interval?: number
}

/** Samples that the CPU's share is taken over: with one of a second, each burst would count. */
const WINDOW = 5

/**
 * Samples the host in the background, cgroup-aware, as long as somebody listens. Its timer does not keep the process alive,
 * and no sample is read on the event loop's own time.
 */
export class HostSampler implements HostObserver {
  readonly #root: string
  readonly #interval: number
  readonly #listeners = new Set<(usage: HostUsage) => void>()
  #timer: NodeJS.Timeout | undefined
  /** Aborts when nobody listens any more: a sample may be on its way. */
  #run: AbortController | undefined

  constructor({ root = '/', interval = 1_000 }: SamplerOptions = {}) {
    this.#root = root
    this.#interval = interval
  }

  observe(listener: (usage: HostUsage) => void): () => void {
    // A wrapper of its own, so that one function can be registered twice.
    const entry = (usage: HostUsage) => listener(usage)
    this.#listeners.add(entry)
    if (!this.#run) void this.#start()
    return () => {
      this.#listeners.delete(entry)
      if (this.#listeners.size === 0) this.#stop()
    }
  }

  async #start(): Promise<void> {
    const run = new AbortController()
    this.#run = run
    const readings: CpuReading[][] = []
    for (;;) {
      const usage = await this.#sample(readings)
      if (run.signal.aborted) return
      for (const listener of this.#listeners) callSafely(listener, usage)
      if (run.signal.aborted) return
      await new Promise<void>((resolve) => {
        this.#timer = setTimeout(resolve, this.#interval).unref()
      })
      if (run.signal.aborted) return
    }
  }

  #stop(): void {
    this.#run?.abort()
    this.#run = undefined
    clearTimeout(this.#timer)
  }

  async #sample(readings: CpuReading[][]): Promise<HostUsage> {
    const cgroups = await findCgroups(this.#root)
    const [cpu, memory] = await Promise.all([
      readCpu(this.#root, cgroups, performance.now()),
      readMemory(this.#root, cgroups),
    ])
    readings.push(cpu)
    if (readings.length > WINDOW + 1) readings.shift()
    return { cpu: shareBetween(readings[0] ?? [], cpu) ?? null, cpus: cpusOf(cpu), memory }
  }
}

/** The one that pools share unless they are given another. */
export const hostSampler: HostObserver = new HostSampler()
