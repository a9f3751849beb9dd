import { freemem, totalmem } from 'node:os'
import { join } from 'node:path'
import { numberAt, readNumber, readText } from './_read.ts'
import type { Cgroups } from '../cgroups.ts'

/** Memory in bytes. */
export interface MemoryUsage {
  /** In use, without what the kernel can take back at once: files that nobody has used of late. */
  readonly used: number
  /** As much as there may be. */
  readonly total: number
}

/**
 * The memory of whatever is nearest to its limit: the machine, or one of the cgroups that this process is in.
 *
 * @param root of the file system, for tests.
 */
export async function readMemory(root: string, { unified, v1 }: Cgroups): Promise<MemoryUsage> {
  const memory = v1.get('memory')
  const [host, ...limited] = await Promise.all([
    readHost(root),
    ...(unified?.levels.map((level) => readUnified(join(unified.mount, level))) ?? []),
    ...(memory?.levels.map((level) => readV1(join(memory.mount, level))) ?? []),
  ])
  // v1 writes a limit near 2^63 where there is none.
  const candidates = limited.filter((usage) => usage !== undefined && usage.total > 0 && usage.total < host.total)
  return candidates.reduce<MemoryUsage>((most, usage) => (usage && shareOf(usage) > shareOf(most) ? usage : most), host)
}

export function shareOf({ used, total }: MemoryUsage): number {
  return total > 0 ? used / total : 0
}

async function readUnified(directory: string): Promise<MemoryUsage | undefined> {
  const total = await readNumber(join(directory, 'memory.max'))
  if (total === undefined) return undefined
  const [current, stat] = await Promise.all([
    readNumber(join(directory, 'memory.current')),
    readText(join(directory, 'memory.stat')),
  ])
  return usageOf(current, numberAt(stat, 'inactive_file'), total)
}

async function readV1(directory: string): Promise<MemoryUsage | undefined> {
  const total = await readNumber(join(directory, 'memory.limit_in_bytes'))
  if (total === undefined) return undefined
  const [current, stat] = await Promise.all([
    readNumber(join(directory, 'memory.usage_in_bytes')),
    readText(join(directory, 'memory.stat')),
  ])
  return usageOf(current, numberAt(stat, 'total_inactive_file'), total)
}

function usageOf(current: number | undefined, inactive = 0, total: number): MemoryUsage | undefined {
  return current === undefined ? undefined : { used: Math.max(0, current - inactive), total }
}

async function readHost(root: string): Promise<MemoryUsage> {
  const meminfo = await readText(join(root, 'proc/meminfo'))
  const [total, available] = [numberAt(meminfo, 'MemTotal'), numberAt(meminfo, 'MemAvailable')]
  if (total === undefined || available === undefined) return { used: totalmem() - freemem(), total: totalmem() }
  return { used: (total - available) * 1024, total: total * 1024 }
}
