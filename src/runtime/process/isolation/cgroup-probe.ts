import { findHierarchies, type Controller, type Hierarchies } from '../cgroup/hierarchies.ts'
import { enableControllers } from '../cgroup/delegation.ts'
import { findController, planDirectories } from '../cgroup/limits.ts'
import { Claims } from '../claims.ts'
import { claimPlace, type Grounds } from '../place.ts'
import { levels } from './levels.ts'
import type { Limits } from './options.ts'
import { explainPlace, LINUX_ONLY, messageOf, NOTHING, run, unavailable, type ProbeResult } from './trial.ts'

/** Makes a cgroup, has a process enter it as a worker would, and removes it again. */
export async function probeCgroup(grounds: Grounds, hierarchies: Hierarchies, limits: Limits): Promise<ProbeResult> {
  const wanted = Object.keys(limits) as Controller[]
  const probe = wanted.length === 0 ? 'cgroup' : `limit ${wanted.join(', ')}`
  if (process.platform !== 'linux') return unavailable(probe, LINUX_ONLY, 'leave the limits out')
  for (const controller of wanted) {
    if (findController(hierarchies, controller) !== undefined) continue
    return unavailable(
      probe,
      `no cgroup hierarchy with the ${controller} controller is mounted`,
      'mount /sys/fs/cgroup; in a container, give it its cgroup (--cgroupns private and a writable /sys/fs/cgroup)',
    )
  }
  const cgroups = planDirectories(hierarchies, limits)
  if (cgroups.length === 0) return unavailable(probe, 'no cgroup hierarchy is mounted', 'mount /sys/fs/cgroup')
  const claims = new Claims()
  try {
    await enableControllers(hierarchies, wanted)
    const { cgroup } = await claimPlace(grounds, { tenant: 'probe', cgroups, user: 'same', run: 'none' }, claims)
    const wrapping = { ...NOTHING, cgroupEntries: cgroup?.entries ?? [] }
    const result = await run([...levels.none.wrap(wrapping), 'true'])
    if (result.exitCode !== 0) throw new Error(`a process could not enter it: ${result.output}`)
    return { probe, status: 'available', detail: cgroups.map(({ kind, parent }) => `${kind} in ${parent}`).join(', ') }
  } catch (error) {
    return unavailable(probe, messageOf(error), explainPlace(error) ?? explainCgroup(error))
  } finally {
    await claims.release()
  }
}

function explainCgroup(error: unknown): string {
  const { code } = ((error as Error).cause ?? error) as NodeJS.ErrnoException
  if (code === 'EBUSY') return 'start this process in a cgroup of its own (systemd: Delegate=yes)'
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    return 'run as root, or have the cgroup given to this user (systemd: Delegate=yes); in a container, mount it writable'
  }
  return 'see whether the cgroup of this process can hold others (/proc/self/cgroup)'
}

/** The hierarchies that this process was in when it was first asked: entering a leaf must not nest the next one in it. */
let hierarchies: Promise<Hierarchies> | undefined

export function ownHierarchies(): Promise<Hierarchies> {
  hierarchies ??= findHierarchies()
  return hierarchies
}
