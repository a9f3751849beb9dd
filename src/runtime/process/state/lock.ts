import { randomBytes } from 'node:crypto'
import { link, rename, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { InvalidOptionError, StateDirectoryInUseError } from '../../errors.ts'
import { writeWhole } from '../write-whole.ts'
import { identify, isIdentity, isRunning, type ProcessIdentity } from './identity.ts'
import { generationOf, listRecords } from './ledger.ts'
import { namesIn } from './names.ts'
import { announce, findPresent, removeAbsent } from './presence.ts'
import { readRegularFile } from './regular-file.ts'

/** No more digits than can be counted with. */
const LOCK_NAME = /^lock\.(\d{1,15})$/
const LAST_GENERATION = 10 ** 15 - 1

export interface Lock {
  /** 0 where there is none. */
  readonly generation: number
  /** `null`: nobody, as it was given back, or there is none. `undefined`: it cannot be read or made sense of. */
  readonly owner: ProcessIdentity | null | undefined
}

/** The parts of a state directory by which it is taken. */
export interface Taken {
  readonly path: string
  /** Where supervisors answer, and this one. */
  readonly own: string
  readonly presence: string
  readonly ledger: string
}

/**
 * Takes a state directory. Locks are numbered, and the highest counts: a dead one is followed, never removed first, so that of
 * two that find it dead only one can make the next.
 *
 * @returns its number.
 * @throws `STATE_DIRECTORY_IN_USE`
 */
export async function takeLock({ path, own, presence, ledger }: Taken): Promise<number> {
  const me = await identify(process.pid)
  for (let isAnnounced = false; ; isAnnounced = true) {
    const newest = await readLock(path)
    const holder = await findHolder(path, own, newest, presence)
    if (holder !== undefined) throw new StateDirectoryInUseError(path, holder)
    // Only now: of two that are about to take it, neither may take the other for the one that has it.
    if (!isAnnounced) await announce(presence)
    const generation = await takeNext(path, newest.generation, me)
    if (generation === undefined) continue
    try {
      await removeFormer(path, newest.generation)
      await removeAbsent(own)
      return await skipRecorded(path, ledger, generation, me)
    } catch (error) {
      await rm(lockOf(path, generation), { force: true })
      throw error
    }
  }
}

/** @returns `undefined` when somebody else was faster. */
async function takeNext(path: string, former: number, me: ProcessIdentity | undefined): Promise<number | undefined> {
  if (former === LAST_GENERATION) {
    const got = `${path}, with ${basename(lockOf(path, former))} in it, which none can follow`
    throw new InvalidOptionError('stateDirectory', 'a directory whose locks can be counted on from', got)
  }
  const generation = former + 1
  if (!(await makeLock(path, generation, me))) return undefined
  if ((await readLock(path)).generation === generation) return generation
  // Others have come and gone since we looked, one of them with this very number.
  await rm(lockOf(path, generation), { force: true })
  return undefined
}

/**
 * Takes it once more under its number, after somebody has removed the lock, and perhaps all of it: then another may be about to
 * take it, too, which this one gives way to.
 *
 * @throws `STATE_DIRECTORY_IN_USE`
 */
export async function retakeLock({ path, own, presence }: Omit<Taken, 'ledger'>, generation: number): Promise<void> {
  const me = await identify(process.pid)
  const isMade = await makeLock(path, generation, me)
  for (const other of (await namesIn(path)).map(generationIn)) {
    if (other === 0 || (isMade && other === generation)) continue
    const lock = { generation: other, owner: await readOwner(path, other) }
    const holder = await findHolder(path, own, lock, presence)
    if (holder === undefined) continue
    if (isMade) await rm(lockOf(path, generation), { force: true })
    throw new StateDirectoryInUseError(path, holder)
  }
  if (!isMade) await writeLock(path, generation, me)
}

/** @returns whether there was none of that number. */
async function makeLock(path: string, generation: number, owner: ProcessIdentity | undefined): Promise<boolean> {
  const draft = draftOf(path)
  await writeWhole(draft, JSON.stringify(owner))
  try {
    await link(draft, lockOf(path, generation))
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    return false
  } finally {
    await rm(draft, { force: true })
  }
}

/**
 * Where somebody has removed the locks, and not what dead supervisors have written down: none of that is to pass for ours.
 *
 * @returns the generation that we are of then.
 */
async function skipRecorded(
  path: string,
  ledger: string,
  generation: number,
  me: ProcessIdentity | undefined,
): Promise<number> {
  const recorded = (await listRecords(ledger, (it) => it < LAST_GENERATION)).map(generationOf)
  const next = Math.max(generation, ...recorded.map((it) => it + 1))
  if (next > generation) {
    await writeLock(path, next, me)
    await removeFormer(path, generation)
  }
  return next
}

/**
 * Whoever has the directory: by the lock, unless that cannot be read, or is another PID namespace's, or gone; and by its
 * presence, which tells as well in those cases.
 *
 * @param own where supervisors answer; this one, at `presence`.
 */
export async function findHolder(
  path: string,
  own: string,
  { owner, generation }: Lock,
  presence?: string,
): Promise<string | undefined> {
  if (owner && (await isRunning(owner))) return `process ${owner.pid}`
  const other = await findPresent(own, presence)
  if (other === undefined) return undefined
  const lock = JSON.stringify(lockOf(path, generation))
  const note = generation === 0 ? 'there is no lock' : `${lock} names no process that can be seen from here`
  return `whoever answers at ${JSON.stringify(other)} (${note})`
}

async function removeFormer(path: string, generation: number): Promise<void> {
  if (generation > 0) await rm(lockOf(path, generation), { force: true })
}

export async function writeLock(
  path: string,
  generation: number,
  owner: ProcessIdentity | null | undefined,
): Promise<void> {
  const draft = draftOf(path)
  await writeWhole(draft, JSON.stringify(owner))
  await rename(draft, lockOf(path, generation))
}

/** Where a lock is written. Not by the process id alone, which in another PID namespace is another's. */
function draftOf(path: string): string {
  return join(path, `draft.${process.pid}.${randomBytes(4).toString('hex')}`)
}

export async function readLock(path: string): Promise<Lock> {
  const generation = Math.max(0, ...(await namesIn(path)).map(generationIn))
  return { generation, owner: await readOwner(path, generation) }
}

/** The number of a lock; 0 when it is called otherwise. */
function generationIn(name: string): number {
  return Number(LOCK_NAME.exec(name)?.[1] ?? 0)
}

async function readOwner(path: string, generation: number): Promise<Lock['owner']> {
  try {
    const owner: unknown = JSON.parse((await readRegularFile(lockOf(path, generation))) ?? 'null')
    return owner === null || isIdentity(owner) ? owner : undefined
  } catch {
    return undefined
  }
}

export function lockOf(path: string, generation: number): string {
  return join(path, `lock.${generation}`)
}
