import { cpus } from 'node:os'
import { join } from 'node:path'
import { numberAt, readNumber, readText } from './_read.ts'
import type { Cgroups } from '../cgroups.ts'

/** A reading of how long CPUs have been busy, of the machine or of one cgroup. */
export interface CpuReading {
  /** Tells the readings of one thing from those of another. */
  readonly of: string
  /** Time that CPUs were busy, in units of {@link time}. */
  readonly busy: number
  /** Time that has passed. */
  readonly time: number
  /** How many CPUs may be busy at once. */
  readonly cpus: number
}

/**
 * What the machine's CPUs that this process may use have done, and every cgroup that it is in and that has a quota.
 *
 * @param root of the file system, for tests.
 * @param now in milliseconds.
 */
export async function readCpu(root: string, cgroups: Cgroups, now: number): Promise<CpuReading[]> {
  const readings = await Promise.all([readHost(root), ...readUnified(cgroups, now), ...readV1(cgroups, now)])
  return readings.filter((reading) => reading !== undefined)
}

/** The largest share of its CPUs that anything used between two readings, 0 to 1. */
export function shareBetween(before: readonly CpuReading[], after: readonly CpuReading[]): number | undefined {
  const shares = after.flatMap(({ of, busy, time, cpus }) => {
    const earlier = before.find((reading) => reading.of === of)
    if (!earlier || time <= earlier.time || cpus <= 0) return []
    return Math.min(1, Math.max(0, (busy - earlier.busy) / ((time - earlier.time) * cpus)))
  })
  return shares.length === 0 ? undefined : Math.max(...shares)
}

/** How many CPUs this process may keep busy: by its affinity and by every quota. */
export function cpusOf(readings: readonly CpuReading[]): number {
  return Math.min(...readings.map(({ cpus }) => cpus))
}

/** The CPUs of this process's affinity, busy or not: a ratio of ticks, whatever a tick is (proc_stat(5)). */
async function readHost(root: string): Promise<CpuReading> {
  const [stat, status] = await Promise.all([
    readText(join(root, 'proc/stat')),
    readText(join(root, 'proc/self/status')),
  ])
  const isAllowed = parseList(/^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1])
  const rows = [...stat.matchAll(/^cpu(\d+) (.+)$/gm)].filter(([, number]) => isAllowed(Number(number)))
  if (rows.length === 0) return readPortably()
  let [busy, time] = [0, 0]
  for (const [, , row = ''] of rows) {
    // The time of guests is part of `user` and `nice`.
    const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] = row
      .trim()
      .split(/\s+/)
      .map(Number)
    const used = user + nice + system + irq + softirq + steal
    busy += used
    time += used + idle + iowait
  }
  return { of: 'host', busy, time: time / rows.length, cpus: rows.length }
}

/** For systems without /proc. */
function readPortably(): CpuReading {
  const all = cpus().map(({ times }) => times)
  const idle = all.reduce((sum, times) => sum + times.idle, 0)
  const time = all.reduce((sum, { user, nice, sys, idle, irq }) => sum + user + nice + sys + idle + irq, 0)
  const count = Math.max(1, all.length)
  return { of: 'host', busy: time - idle, time: time / count, cpus: count }
}

/** v2: `cpu.max` is `quota period`, both in µs, or `max period`. */
function readUnified({ unified }: Cgroups, now: number): Promise<CpuReading | undefined>[] {
  if (!unified) return []
  return unified.levels.map(async (level) => {
    const directory = join(unified.mount, level)
    const [, quota, period] = /^(\d+) (\d+)/.exec(await readText(join(directory, 'cpu.max'))) ?? []
    if (quota === undefined || period === undefined) return undefined
    const busy = numberAt(await readText(join(directory, 'cpu.stat')), 'usage_usec')
    return busy === undefined ? undefined : quotaReading(directory, busy / 1000, now, Number(quota) / Number(period))
  })
}

/** v1: the quota is -1 where there is none, and the usage, in ns, is that of another controller. */
function readV1({ v1 }: Cgroups, now: number): Promise<CpuReading | undefined>[] {
  const [limits, usage] = [v1.get('cpu'), v1.get('cpuacct')]
  if (!limits || !usage) return []
  return limits.levels.map(async (level) => {
    const directory = join(limits.mount, level)
    const [quota, period, busy] = await Promise.all([
      readNumber(join(directory, 'cpu.cfs_quota_us')),
      readNumber(join(directory, 'cpu.cfs_period_us')),
      readNumber(join(usage.mount, level, 'cpuacct.usage')),
    ])
    if (quota === undefined || quota <= 0 || period === undefined || busy === undefined) return undefined
    return quotaReading(directory, busy / 1e6, now, quota / period)
  })
}

function quotaReading(of: string, busy: number, time: number, cpus: number): CpuReading | undefined {
  return Number.isFinite(cpus) && cpus > 0 ? { of, busy, time, cpus } : undefined
}

/** A list such as `0-3,6`; without one every number is in it. */
function parseList(list: string | undefined): (number: number) => boolean {
  if (list === undefined) return () => true
  const ranges = list.split(',').map((range) => range.split('-').map(Number))
  return (number) => ranges.some(([from = 0, to = from]) => number >= from && number <= to)
}
