import { join, relative } from 'node:path'

/** The cgroups of one hierarchy that hold this process. */
export interface Hierarchy {
  readonly mount: string
  /** Their paths below the mount, from the process's own up to the topmost that can be seen: each has limits of its own. */
  readonly levels: readonly string[]
  /** Directory of the process's own cgroup; `undefined` when the mount does not show it. */
  readonly own: string | undefined
}

export interface Cgroups {
  /** The hierarchy of v2, which a machine with v1 may have without any controller. */
  readonly unified: Hierarchy | undefined
  /** Those of v1, by controller. */
  readonly v1: ReadonlyMap<string, Hierarchy>
}

/**
 * Where a process is, by its /proc/self/mountinfo and /proc/self/cgroup. Nothing where there are no cgroups.
 *
 * Takes the file-system type from the mount, not from the path: a plain directory under /sys/fs/cgroup takes limits without
 * a complaint and enforces none.
 */
export function parseCgroups(mountinfo: string, cgroup: string): Cgroups {
  const paths = pathsByController(cgroup)
  let unified: Hierarchy | undefined
  const v1 = new Map<string, Hierarchy>()
  for (const { type, options, mount, shows } of mountsIn(mountinfo)) {
    if (type === 'cgroup2') unified ??= hierarchy(mount, shows, paths.get(''))
    if (type !== 'cgroup') continue
    for (const controller of options) {
      const path = paths.get(controller)
      if (path !== undefined && !v1.has(controller)) v1.set(controller, hierarchy(mount, shows, path))
    }
  }
  return { unified, v1 }
}

/** Lines of /proc/self/cgroup: `id:controllers:path`, where v2 has no controllers (cgroups(7)). */
function pathsByController(text: string): Map<string, string> {
  const paths = new Map<string, string>()
  for (const line of text.split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    for (const controller of controllers?.split(',') ?? []) paths.set(controller, path ?? '/')
  }
  return paths
}

/** Lines of mountinfo: `id parent device root mountpoint options… - type source options` (proc_pid_mountinfo(5)). */
function mountsIn(text: string): { type: string; options: string[]; mount: string; shows: string }[] {
  return text.split('\n').flatMap((line) => {
    const [before = '', after] = line.split(' - ')
    const [, , , shows = '/', mount = ''] = before.split(' ').map(unescape)
    const [type = '', , options = ''] = after?.split(' ') ?? []
    return after === undefined ? [] : [{ type, options: options.split(','), mount, shows }]
  })
}

/** mountinfo writes blanks and the like in octal. */
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}

/** @param shows the part of the hierarchy that is mounted: in a container often just the one that holds the process. */
function hierarchy(mount: string, shows: string, path: string | undefined): Hierarchy {
  const below = path === undefined ? '..' : relative(shows, path)
  const isShown = !below.startsWith('..')
  const names = isShown && below !== '' ? below.split('/') : []
  return {
    mount,
    levels: Array.from({ length: names.length + 1 }, (_, up) => names.slice(0, names.length - up).join('/')),
    own: isShown ? join(mount, below) : undefined,
  }
}
