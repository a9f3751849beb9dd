import { readFile } from 'node:fs/promises'
import { join, relative } from 'node:path'

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

/**
 * Takes the file-system type from the mount, not from the path: a plain directory under /sys/fs/cgroup takes limits without
 * a complaint and enforces none.
 */
export function parseHierarchies(mountinfo: string, cgroup: string): Pick<Hierarchies, 'unified' | 'v1'> {
  const own = new Map<string, string>()
  for (const line of cgroup.split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    if (controllers === undefined || path === undefined) continue
    for (const controller of controllers.split(',')) own.set(controller, path)
  }
  let unified: string | undefined
  const v1 = new Map<string, string>()
  for (const line of mountinfo.split('\n')) {
    // id parent device root mountpoint options… - type source superoptions
    const [before = '', after = ''] = line.split(' - ')
    const [, , , root = '', mountPoint = ''] = before.split(' ').map(unescape)
    const [type, , options = ''] = after.split(' ')
    if (type === 'cgroup2') unified ??= inMount(mountPoint, root, own.get(''))
    if (type !== 'cgroup') continue
    for (const controller of options.split(',')) {
      const directory = inMount(mountPoint, root, own.get(controller))
      if (directory !== undefined && !v1.has(controller)) v1.set(controller, directory)
    }
  }
  return { unified, v1 }
}

/** A mount may show only a part of its hierarchy: a container sees nothing above its own. */
function inMount(mountPoint: string, root: string, path: string | undefined): string | undefined {
  if (path === undefined) return undefined
  const below = relative(root, path)
  return below.startsWith('..') ? undefined : join(mountPoint, below)
}

/** mountinfo writes blanks and the like in octal. */
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}

function read(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '')
}
