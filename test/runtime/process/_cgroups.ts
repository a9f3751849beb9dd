import { randomBytes } from 'node:crypto'
import { chownSync, existsSync, mkdirSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { findHierarchies } from '../../../src/runtime/process/cgroup/hierarchies.ts'

/** Hierarchies of the machine below which tests make directories of their own. */
type Hierarchy = 'memory' | 'cpu' | 'pids' | 'freezer' | 'unified'

/** Makes a cgroup in each of the hierarchies that this machine has, removed after the test with all that is in it. */
export async function makeCgroups(hierarchies: readonly Hierarchy[]): Promise<readonly string[]> {
  const { unified, v1 } = await findHierarchies()
  const name = `test-${randomBytes(4).toString('hex')}`
  const parents = hierarchies.map((hierarchy) => (hierarchy === 'unified' ? unified : v1.get(hierarchy)))
  const paths = [...new Set(parents)].flatMap((parent) => (parent === undefined ? [] : [join(parent, name)]))
  for (const path of paths) mkdirSync(path)
  onTestFinished(async () => {
    for (const path of paths) await removeCgroup(path)
  })
  return paths
}

/** The same, given to a user as `Delegate=yes` of systemd does: the directory, and the files by which processes move. */
export async function delegateCgroups(hierarchies: readonly Hierarchy[], uid: number): Promise<readonly string[]> {
  const paths = await makeCgroups(hierarchies)
  for (const path of paths) {
    const files = ['cgroup.procs', 'cgroup.subtree_control', 'cgroup.threads', 'tasks'].map((file) => join(path, file))
    for (const file of [path, ...files.filter((file) => existsSync(file))]) chownSync(file, uid, uid)
  }
  return paths
}

/** Keeps a process from running, and SIGKILL from ending it, until the returned function is called or the test is over. */
export async function freeze(pid: number): Promise<() => void> {
  const [path = ''] = await makeCgroups(['freezer'])
  const set = (state: 'FROZEN' | 'THAWED') => writeFileSync(join(path, 'freezer.state'), state)
  onTestFinished(() => set('THAWED')) // Before the directory is removed: the last is called first.
  writeFileSync(join(path, 'cgroup.procs'), String(pid))
  set('FROZEN')
  return () => set('THAWED')
}

/** Whether {@link freeze} can. */
export async function canFreeze(): Promise<boolean> {
  return process.geteuid?.() === 0 && (await findHierarchies()).v1.has('freezer')
}

/** Removes it and those below, once the processes that were in them are gone: they end by themselves. */
async function removeCgroup(path: string): Promise<void> {
  const below = readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  for (const { name } of below) await removeCgroup(join(path, name))
  for (;;) {
    try {
      return rmdirSync(path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error
      await delay(10)
    }
  }
}

/** A command that enters cgroups before it becomes another. */
export function inCgroups(cgroups: readonly string[], command: readonly string[]): [string, string[]] {
  const enter = 'for d; do [ "$d" = -- ] && break; shift; echo 0 > "$d/cgroup.procs" || exit; done; shift; exec "$@"'
  return ['/bin/sh', ['-c', enter, 'sh', ...cgroups, '--', ...command]]
}
