import { rmdirSync, writeFileSync } from 'node:fs'
import { readFile, readdir, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Claim } from '../claims.ts'
import { killAll, killQuietly } from '../killed.ts'
import { makeDirectory } from '../make-directory.ts'
import type { DirectoryPlan, Setting } from './limits.ts'

export interface CgroupDirectory {
  readonly kind: DirectoryPlan['kind']
  readonly path: string
}

/** The cgroup of one worker: a directory in each hierarchy that is needed. */
export class WorkerCgroup implements Claim {
  readonly directories: readonly CgroupDirectory[]

  /** Of a cgroup that exists: made by {@link createCgroup}, or left by a run that died. */
  constructor(directories: readonly CgroupDirectory[]) {
    this.directories = directories
  }

  /** Files to which a process writes `0` to enter. */
  get entries(): readonly string[] {
    return this.directories.map(({ path }) => join(path, 'cgroup.procs'))
  }

  /** Kills every process in it, those that fork meanwhile too where the kernel can. Never throws. */
  killNow(): void {
    const unified = this.#directory('unified')
    if (unified !== undefined) writeQuietly(join(unified, 'cgroup.kill'), '1')
  }

  /** How often the kernel has killed a process of it for want of memory. */
  async oomKills(): Promise<number> {
    const v1 = this.#directory('memory')
    const unified = this.#directory('unified')
    const text =
      v1 !== undefined
        ? await readQuietly(join(v1, 'memory.oom_control'))
        : await readQuietly(join(unified ?? '', 'memory.events'))
    return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0)
  }

  /**
   * Bytes of memory in use, without the file pages that nobody has used of late.
   *
   * @returns `undefined` where the kernel does not count them for it.
   */
  async memory(): Promise<number | undefined> {
    const v1 = this.#directory('memory')
    const directory = v1 ?? this.#directory('unified')
    if (directory === undefined) return undefined
    const [used, stat] = await Promise.all([
      readQuietly(join(directory, v1 === undefined ? 'memory.current' : 'memory.usage_in_bytes')),
      readQuietly(join(directory, 'memory.stat')),
    ])
    // In v1 the line without `total_` leaves out what is below.
    const unused = new RegExp(`^${v1 === undefined ? '' : 'total_'}inactive_file (\\d+)$`, 'm').exec(stat)?.[1]
    return used === '' ? undefined : Math.max(0, Number(used) - Number(unused ?? 0))
  }

  /**
   * Kills what is in it until nothing is, and removes it.
   *
   * @param giveUpAfter milliseconds.
   * @returns ids of the processes that would not die; the directories stay then.
   */
  async empty(giveUpAfter?: number): Promise<readonly number[]> {
    // Mostly nothing is left in it, and the kernel says so by letting it be removed.
    if (this.directories.every(({ path }) => removeNow(path))) return []
    const isGone = await killAll(async () => {
      await this.#kill()
      return this.#remove()
    }, giveUpAfter)
    return isGone ? [] : this.members()
  }

  async release(): Promise<void> {
    const survivors = await this.empty()
    if (survivors.length > 0) throw new Error(`Processes ${survivors.join(', ')} of the worker could not be killed`)
  }

  releaseNow(): void {
    this.killNow()
    // Those whose processes are still dying are for whoever reads the ledger next.
    for (const { path } of this.directories) removeNow(path)
  }

  /** Ids of the processes in it, and in what the worker has made below it. */
  async members(): Promise<readonly number[]> {
    const trees = await Promise.all(this.directories.map(({ path }) => treeOf(path)))
    const lists = await Promise.all(trees.flat().map((path) => readQuietly(join(path, 'cgroup.procs'))))
    const pids = lists.flatMap((list) => list.split('\n').map(Number))
    // An empty line would be 0, which is our own group to kill(2).
    return [...new Set(pids.filter((pid) => pid > 1 && pid !== process.pid))]
  }

  async #kill(): Promise<void> {
    this.killNow()
    const freezer = this.#directory('freezer')
    if (freezer !== undefined) await writeFile(join(freezer, 'freezer.state'), 'FROZEN').catch(() => {})
    for (const pid of await this.members()) killQuietly(pid)
    if (freezer !== undefined) await writeFile(join(freezer, 'freezer.state'), 'THAWED').catch(() => {})
  }

  /** @returns whether none of it is left. */
  async #remove(): Promise<boolean> {
    const removed = await Promise.all(this.directories.map(({ path }) => removeTree(path)))
    return removed.every(Boolean)
  }

  #directory(kind: DirectoryPlan['kind']): string | undefined {
    return this.directories.find((directory) => directory.kind === kind)?.path
  }
}

/** Makes a worker's cgroup. Rejects, with nothing left behind, naming the file that could not be written. */
export async function createCgroup(plans: readonly DirectoryPlan[], name: string): Promise<WorkerCgroup> {
  const made: CgroupDirectory[] = []
  try {
    for (const { parent, kind, settings } of plans) {
      const path = join(parent, name)
      await makeDirectory(path, 0o755)
      made.push({ kind, path })
      for (const setting of settings) await apply(path, setting)
    }
    return new WorkerCgroup(made)
  } catch (error) {
    await Promise.all(made.map(({ path }) => removeDirectory(path)))
    throw error
  }
}

async function apply(directory: string, { file, value, may }: Setting): Promise<void> {
  const path = join(directory, file)
  try {
    // Never created: on a file system that is none of cgroups it would be, and limit nothing.
    await writeFile(path, value, { flag: 'r+' })
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (may !== 'absent' || code !== 'ENOENT') throw new Error(`cannot write ${value} to ${path} (${code})`, { cause })
  }
}

function removeNow(directory: string): boolean {
  try {
    rmdirSync(directory)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
  }
}

/** A directory with all that a worker, which may do that as root, has made below it, the deepest first. */
async function treeOf(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => [])
  const below = entries.filter((entry) => entry.isDirectory()).map(({ name }) => treeOf(join(directory, name)))
  return [...(await Promise.all(below)).flat(), directory]
}

/** @returns whether nothing of it is left. */
async function removeTree(directory: string): Promise<boolean> {
  let removed = true
  // The last is the directory itself: it goes when all of the others are gone.
  for (const path of await treeOf(directory)) removed = await removeDirectory(path)
  return removed
}

async function removeDirectory(directory: string): Promise<boolean> {
  try {
    await rmdir(directory)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
  }
}

function readQuietly(path: string): Promise<string> {
  return readFile(path, 'latin1').catch(() => '')
}

function writeQuietly(path: string, text: string): void {
  try {
    // Not created where it does not exist: before Linux 5.14 there is no such file.
    writeFileSync(path, text, { flag: 'r+' })
  } catch {
    // Gone, or not to be had: its processes are killed one by one then.
  }
}
