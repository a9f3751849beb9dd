import { join } from 'node:path'
import { parseCgroups, type Cgroups, type Hierarchy } from '../cgroups.ts'
import { readText } from './_read.ts'

/** Finds where this process is, below `root`. */
export async function findCgroups(root: string): Promise<Cgroups> {
  const [mountinfo, own] = await Promise.all([
    readText(join(root, 'proc/self/mountinfo')),
    readText(join(root, 'proc/self/cgroup')),
  ])
  const { unified, v1 } = parseCgroups(mountinfo, own)
  const below = (hierarchy: Hierarchy): Hierarchy => ({ ...hierarchy, mount: join(root, hierarchy.mount) })
  return { unified: unified && below(unified), v1: new Map([...v1].map(([name, it]) => [name, below(it)])) }
}
