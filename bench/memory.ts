import { setTimeout as delay } from 'node:timers/promises'

export interface Memory {
  /** Objects of the heap and buffers, after garbage collection, in bytes. */
  readonly heap: number
  /** Resident set of the process, in bytes. */
  readonly resident: number
}

/** What this process holds at rest. Wants `--expose-gc`. */
export async function memory(): Promise<Memory> {
  for (let i = 0; i < 4; i++) {
    globalThis.gc?.()
    await delay(50)
  }
  const { heapUsed, external, rss } = process.memoryUsage()
  return { heap: heapUsed + external, resident: rss }
}
