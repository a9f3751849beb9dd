import { realpath } from 'node:fs/promises'
import { basename, dirname, isAbsolute, normalize } from 'node:path'
import { findCgroups } from '../../host/cgroups.ts'
import type { CgroupDirectory } from '../cgroup/worker-cgroup.ts'
import { isIdentity, readBootId, type ProcessIdentity } from './identity.ts'
import { readRegularFile } from './regular-file.ts'

/** What is written down of one start of one worker, before anything of it exists. */
export interface LedgerRecord {
  /** Of this start: its directory, its cgroup and the file of the record are called after it. */
  readonly name: string
  /** Holds its socket and everything else of its own. By it the record also says of which state directory it is. */
  readonly directory: string
  readonly cgroups: readonly CgroupDirectory[]
  readonly bootId: string | null
  /** The leader of its process group; absent until it runs. */
  readonly process?: ProcessIdentity | undefined
}

/** A record that no supervisor of this state directory has written: it was damaged, edited, or came from elsewhere. */
export class RecordError extends Error {
  constructor(path: string, expected: string, got: unknown) {
    super(
      `the record ${JSON.stringify(path)}, which is not right: expected ${expected}, got ${JSON.stringify(got)?.slice(0, 200)}. ` +
        'Nothing that it names was ended or removed: see to what is left of that, then remove the record',
    )
    this.name = 'RecordError'
  }
}

/** The generation, the name of the start, and whether it is still being written. */
const FILE_NAME = /^\d+\.(.+-[0-9a-f]{8})\.json(\.draft)?$/

export function recordFile(generation: number, name: string): string {
  return `${generation}.${name}.json`
}

/** What the cgroup of a worker's start is called. */
export function cgroupName(name: string): string {
  return `corral-${name}`
}

/**
 * Reads one, for what it names to be ended and removed: that has to be what a supervisor of this state directory can have
 * made, whoever wrote the file.
 *
 * @param workers the directory that those of workers are in.
 * @returns `undefined` for what no supervisor has written to its end: nothing was started by then.
 * @throws {RecordError}
 */
export async function readRecord(path: string, workers: string): Promise<LedgerRecord | undefined> {
  const [, name, draft] = FILE_NAME.exec(basename(path)) ?? []
  if (name === undefined) throw new RecordError(path, 'the name of a record', basename(path))
  const text = await readRegularFile(path).catch((error: Error) => {
    throw new RecordError(path, 'a small file that can be read', error.message)
  })
  if (text === undefined) return undefined
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    if (draft !== undefined) return undefined
    throw new RecordError(path, 'JSON', text)
  }
  return checkRecord(path, Object(value) as Unchecked, name, workers)
}

type Unchecked = { readonly [key in keyof LedgerRecord]?: unknown }

async function checkRecord(path: string, record: Unchecked, name: string, workers: string): Promise<LedgerRecord> {
  const { directory, cgroups, bootId, process: leader } = record
  const check = (isRight: boolean, field: keyof LedgerRecord, expected: string) => {
    if (!isRight) throw new RecordError(path, `${field} to be ${expected}`, record[field])
  }
  check(record.name === name, 'name', `that in the name of the file, ${JSON.stringify(name)}`)
  check(await isDirectlyIn(workers, directory, name), 'directory', `that of this name in ${JSON.stringify(workers)}`)
  check(bootId === null || typeof bootId === 'string', 'bootId', 'text or null')
  const isLeader = isIdentity(leader) && leader.pid > 1
  check(leader === undefined || isLeader, 'process', 'absent, or a pid above 1, startTime and bootId')
  check(Array.isArray(cgroups) && cgroups.every(isCgroup), 'cgroups', 'a list of kind and path')
  const checked = { name, directory, cgroups, bootId, process: leader } as LedgerRecord
  // After another start of the machine nobody goes to them, and they may have been elsewhere.
  const areOurs = bootId !== (await readBootId()) || (await haveBeenMade(checked))
  check(areOurs, 'cgroups', `in a hierarchy of their kind, each called ${cgroupName(name)}`)
  return checked
}

/** Under whatever name a supervisor had for the state directory. */
async function isDirectlyIn(parent: string, path: unknown, name: string): Promise<boolean> {
  if (typeof path !== 'string' || !isAbsolute(path) || basename(path) !== name) return false
  // One that is not there has but the name that is given.
  const [real, expected] = await Promise.all([dirname(path), parent].map((it) => realpath(it).catch(() => it)))
  return real === expected
}

function isCgroup(value: unknown): boolean {
  const { kind, path } = Object(value) as { readonly [key in keyof CgroupDirectory]?: unknown }
  return typeof kind === 'string' && typeof path === 'string'
}

/** Not just in the cgroup of this process: that of the one before may have been another. */
async function haveBeenMade({ name, cgroups }: LedgerRecord): Promise<boolean> {
  if (cgroups.length === 0) return true
  const { unified, v1 } = await findCgroups('/')
  return cgroups.every(({ kind, path }) => {
    const hierarchy = kind === 'unified' ? unified : v1.get(kind)
    // No link can be on the way: these file systems have none.
    const isBelow = hierarchy !== undefined && path.startsWith(`${hierarchy.mount}/`) && normalize(path) === path
    return isBelow && basename(path) === cgroupName(name)
  })
}
