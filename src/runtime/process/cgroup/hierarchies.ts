import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseCgroups } from '../../cgroups.ts'

export type Controller = 'memory' | 'cpu' | 'pids'

/** Where this process is in the cgroups of the machine: where its workers' own can be made. */
export interface Hierarchies {
  /** Directory of this process in the unified hierarchy (v2), which may be mounted without any controller. */
  readonly unified: string | undefined
  /** Controllers that the unified hierarchy offers there. */
  readonly unifiedControllers: ReadonlySet<string>
  /** Directory of this process by controller of v1, `freezer` among them. */
  readonly v1: ReadonlyMap<string, string>
}

/** Reads where this process is. Finds nothing where there are no cgroups. */
export async function findHierarchies(): Promise<Hierarchies> {
  const [mounts, own] = await Promise.all([read('/proc/self/mountinfo'), read('/proc/self/cgroup')])
  const { unified, v1 } = parseHierarchies(mounts, own)
  const controllers = unified === undefined ? '' : await read(join(unified, 'cgroup.controllers'))
  return { unified, v1, unifiedControllers: new Set(controllers.split(/\s+/).filter(Boolean)) }
}

/** Only what the mounts show of this process's own. */
export function parseHierarchies(mountinfo: string, cgroup: string): Pick<Hierarchies, 'unified' | 'v1'> {
  const { unified, v1 } = parseCgroups(mountinfo, cgroup)
  const shown = [...v1].flatMap(([name, { own }]): [string, string][] => (own === undefined ? [] : [[name, own]]))
  return { unified: unified?.own, v1: new Map(shown) }
}

function read(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '')
}
