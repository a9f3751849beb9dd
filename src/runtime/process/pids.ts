import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { findCgroups } from '../host/cgroups.ts'

/**
 * Ids of every process that can be seen. A /proc that may not be listed (mode 0711) still tells of a process that is asked
 * for by its id; the ids are those in the cgroups then, whose files are for everybody to read: each process is in one.
 *
 * @returns `undefined` where neither can be read, as on other systems than Linux.
 */
export async function listPids(): Promise<readonly number[] | undefined> {
  if (process.platform !== 'linux') return undefined
  const pids = (await inProc()) ?? (await inCgroups())
  // There is always this one: nothing is mounted there.
  return pids.length === 0 ? undefined : pids
}

async function inProc(): Promise<number[] | undefined> {
  const names = await readdir('/proc').catch(() => undefined)
  return names?.map(Number).filter((pid) => pid > 0)
}

async function inCgroups(): Promise<number[]> {
  const { unified, v1 } = await findCgroups('/')
  const hierarchy = [unified, ...v1.values()].find((candidate) => candidate?.own !== undefined)
  const pids = hierarchy === undefined ? [] : await inCgroup(hierarchy.mount)
  // One that moves while this reads may be met twice. As `0` we are shown one of a namespace that we do not see into.
  return [...new Set(pids.filter((pid) => pid > 0))]
}

/** Those in it and in the ones below. */
async function inCgroup(directory: string): Promise<number[]> {
  const [own, entries] = await Promise.all([
    readFile(join(directory, 'cgroup.procs'), 'latin1').catch(() => ''),
    readdir(directory, { withFileTypes: true }).catch(() => []),
  ])
  const below = entries.filter((entry) => entry.isDirectory()).map(({ name }) => inCgroup(join(directory, name)))
  return [...own.split('\n').map(Number), ...(await Promise.all(below)).flat()]
}
