/** What operations cost this process, each, in microseconds. */
export interface Cost {
  readonly cpu: number
  readonly wall: number
}

export async function costOf(operations: number, work: () => unknown): Promise<Cost> {
  globalThis.gc?.()
  const before = process.cpuUsage()
  const start = performance.now()
  await work()
  const wall = ((performance.now() - start) * 1_000) / operations
  const { user, system } = process.cpuUsage(before)
  return { cpu: (user + system) / operations, wall }
}
