import { readFile, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { makeDirectory } from '../make-directory.ts'
import { findController } from './limits.ts'
import type { Controller, Hierarchies } from './hierarchies.ts'

/** Where this process goes when its own cgroup has to become one that only holds others. */
const LEAF = 'corral-supervisor'

/**
 * Makes the cgroups below ours have the controllers, where those are of v2. There a cgroup that passes controllers on may
 * hold no processes itself, so this process moves to a leaf of its own if that is what stands in the way.
 *
 * @throws when it may not, or when others are in our cgroup (EBUSY).
 */
export async function enableControllers(hierarchies: Hierarchies, wanted: readonly Controller[]): Promise<void> {
  const { unified } = hierarchies
  const controllers = wanted.filter((controller) => findController(hierarchies, controller) === 'v2')
  if (unified === undefined || controllers.length === 0) return
  await passOn(unified, controllers)
}

/** The part of {@link enableControllers} that does not depend on which controllers a worker can have. */
export async function passOn(directory: string, controllers: readonly string[]): Promise<void> {
  const file = join(directory, 'cgroup.subtree_control')
  const enabled = new Set((await readFile(file, 'latin1')).split(/\s+/))
  const missing = controllers.filter((controller) => !enabled.has(controller))
  if (missing.length === 0) return
  const text = missing.map((controller) => `+${controller}`).join(' ')
  const write = () => writeFile(file, text, { flag: 'r+' })
  try {
    await write()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error
    await moveToLeaf(directory)
    try {
      await write()
    } catch (cause) {
      await moveBack(directory)
      const { code } = cause as NodeJS.ErrnoException
      throw new Error(`cannot write ${text} to ${file} (${code}): other processes are in this cgroup`, { cause })
    }
  }
}

async function moveToLeaf(directory: string): Promise<void> {
  const leaf = join(directory, LEAF)
  await makeDirectory(leaf, 0o755).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
  })
  await enter(leaf)
}

async function moveBack(directory: string): Promise<void> {
  await enter(directory).catch(() => {})
  await rmdir(join(directory, LEAF)).catch(() => {})
}

function enter(directory: string): Promise<void> {
  return writeFile(join(directory, 'cgroup.procs'), String(process.pid), { flag: 'r+' })
}
