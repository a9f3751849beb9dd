import type { Limits } from '../isolation/options.ts'
import type { Controller, Hierarchies } from './hierarchies.ts'

/** Limits that a cgroup sets; the others are set by other means. */
export const cgroupLimits = ['memory', 'cpu', 'pids'] as const satisfies readonly Controller[]

/** Processes of the wrappers around a worker, which count as its own: bubblewrap, its init, and one in passing. */
const WRAPPER_PROCESSES = 3
const CPU_PERIOD = 100_000

/** One directory to make, and what to write into its files. A setting that is not needed may fail. */
export interface DirectoryPlan {
  readonly parent: string
  readonly kind: 'unified' | 'memory' | 'cpu' | 'pids' | 'freezer'
  readonly settings: readonly Setting[]
}

export interface Setting {
  readonly file: string
  readonly value: string
  /** `absent`: not every kernel has the file. */
  readonly may?: 'absent'
}

/**
 * The directories that make up one worker's cgroup: one in the unified hierarchy, to kill all of it at once, and one for
 * each limit that is set, there or in v1.
 */
export function planDirectories({ unified, unifiedControllers, v1 }: Hierarchies, limits: Limits): DirectoryPlan[] {
  const plans: DirectoryPlan[] = []
  const unifiedSettings: Setting[] = []
  for (const controller of cgroupLimits) {
    const value = limits[controller]
    if (value === undefined) continue
    const parent = v1.get(controller)
    if (unified !== undefined && unifiedControllers.has(controller)) unifiedSettings.push(...v2[controller](value))
    else if (parent !== undefined) plans.push({ parent, kind: controller, settings: v1Settings[controller](value) })
  }
  if (unified !== undefined) plans.push({ parent: unified, kind: 'unified', settings: unifiedSettings })
  const freezer = v1.get('freezer')
  // Without `cgroup.kill` a frozen group is the one that cannot fork faster than it is killed.
  if (unified === undefined && freezer !== undefined) plans.push({ parent: freezer, kind: 'freezer', settings: [] })
  return plans
}

/** Whether and where `controller` can be had. */
export function findController({ unified, unifiedControllers, v1 }: Hierarchies, controller: Controller) {
  if (unified !== undefined && unifiedControllers.has(controller)) return 'v2'
  return v1.has(controller) ? 'v1' : undefined
}

type Settings = Readonly<Record<Controller, (limit: number) => readonly Setting[]>>

const v2: Settings = {
  memory: (bytes) => [
    { file: 'memory.max', value: String(bytes) },
    { file: 'memory.swap.max', value: '0', may: 'absent' },
    // One process less would leave the worker half alive: all of it goes.
    { file: 'memory.oom.group', value: '1', may: 'absent' },
  ],
  cpu: (cores) => [{ file: 'cpu.max', value: `${Math.round(cores * CPU_PERIOD)} ${CPU_PERIOD}` }],
  pids: (count) => [{ file: 'pids.max', value: String(count + WRAPPER_PROCESSES) }],
}

const v1Settings: Settings = {
  memory: (bytes) => [
    { file: 'memory.limit_in_bytes', value: String(bytes) },
    { file: 'memory.memsw.limit_in_bytes', value: String(bytes), may: 'absent' },
  ],
  cpu: (cores) => [
    { file: 'cpu.cfs_period_us', value: String(CPU_PERIOD) },
    { file: 'cpu.cfs_quota_us', value: String(Math.round(cores * CPU_PERIOD)) },
  ],
  pids: (count) => [{ file: 'pids.max', value: String(count + WRAPPER_PROCESSES) }],
}
