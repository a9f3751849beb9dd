import { constants, existsSync } from 'node:fs'
import { chmod, lstat, mkdtemp, readdir, realpath, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { InvalidOptionError, StateDirectoryInUseError } from '../../errors.ts'
import { MAX_SOCKET_PATH } from '../address.ts'
import { makeDirectory } from '../make-directory.ts'
import { temporaryDirectory } from '../temporary.ts'
import { identify } from './identity.ts'
import { Ledger } from './ledger.ts'
import { findHolder, lockOf, readLock, retakeLock, takeLock, writeLock } from './lock.ts'
import { announce, findPresent, isAnnounced, presencePath, withdraw } from './presence.ts'
import { removeSwept, sweep, withWarning, type Swept } from './sweep.ts'

/** Directory on disk of one supervisor: the ledger and the directories of its workers. */
export interface StateDirectory {
  readonly path: string
  readonly generation: number
  /** `private`: made for this supervisor, and removed with it. `named`: given by the user, and used again. */
  readonly kind: 'private' | 'named'
  /** Where the directories of workers go; their users may pass through it. */
  readonly workers: string
  /** For this user alone. */
  readonly own: string
  /** At which its supervisor answers, in {@link own}. */
  readonly presence: string
  readonly ledger: Ledger
}

const PRIVATE_NAME = /^corral-[A-Za-z0-9]{6}$/
/** The longest name of a socket in the directory: others are called by a process id. */
const LONGEST_SOCKET = 'own/draft.4194304'
/** What the system, or Node, says of a path at which there is something of another kind. */
const IN_THE_WAY: ReadonlySet<string | undefined> = new Set(['EEXIST', 'ENOTDIR', 'EISDIR', 'ERR_FS_EISDIR'])

/**
 * Takes a state directory for this process, and removes what supervisors that died left there: of a `named` one, or of any
 * private one of this user.
 *
 * @throws `STATE_DIRECTORY_IN_USE`; `INVALID_OPTION` when it cannot be made, others may write to it, or it holds something
 *   else: its mode is changed, and what is in it removed.
 */
export async function openStateDirectory(named: string | undefined): Promise<StateDirectory> {
  if (named === undefined) {
    const openPrivate = async () => {
      await sweepPrivate()
      return preparePrivate(await mkdtemp(join(temporaryDirectory(), 'corral-')))
    }
    return usableDirectory(temporaryDirectory(), openPrivate, ', for want of another one')
  }
  await makeNamed(named)
  // By no links, which others could have lead elsewhere; it must not be one itself.
  const name = basename(named)
  const isUp = name === '.' || name === '..'
  const path = isUp ? await realpath(named) : join(await realpath(dirname(named)), name)
  const state = await usableDirectory(path, async () => {
    await checkOwner(path)
    await checkContents(path)
    return prepare(path, 'named')
  })
  await sweep(partsOf(path), (generation) => generation !== state.generation)
  return state
}

/**
 * Gives it back: for its supervisor when nothing is left to sweep, or for whoever finds that supervisor dead.
 *
 * @param giveUpAfter see {@link sweep}.
 */
export async function closeStateDirectory(
  { path, own, generation, kind, presence }: Omit<StateDirectory, 'ledger'>,
  giveUpAfter?: number,
): Promise<void> {
  // Somebody has removed it, and another supervisor taken it: what is written down there is of that one's workers.
  if ((await findPresent(own, presence)) !== undefined) {
    await withdraw(presence)
    return
  }
  const isClean = await sweep(partsOf(path), (candidate) => candidate === generation, giveUpAfter)
  // First: when the lock says that nobody has the directory, nobody is to answer in it.
  await withdraw(presence)
  // The number stays taken. Of one that somebody has removed nothing is made anew.
  if (kind === 'named') {
    if (existsSync(own)) await writeLock(path, generation, null)
    return
  }
  // Otherwise it stays, with its ledger and a lock of the dead, by which a later start finds it.
  if (isClean) await removePrivate(path)
}

/**
 * @param note on the directory, for the error.
 * @throws `INVALID_OPTION` for whatever the system refuses there, with the name of what is in the way. What it refuses elsewhere is
 *   thrown as it is.
 */
export async function usableDirectory<T>(directory: string, use: () => Promise<T>, note = ''): Promise<T> {
  try {
    return await use()
  } catch (cause) {
    const { syscall, code, path } = cause as NodeJS.ErrnoException
    if (syscall === undefined || (path !== undefined && relative(directory, path).startsWith('..'))) throw cause
    const got = `${directory}${describeObstacle(directory, path, code)}${note} (${code?.replace(/^ERR_FS_/, '')})`
    throw new InvalidOptionError('stateDirectory', 'a directory that can be written to', got)
  }
}

/** Something in it that is of another kind than it should be. */
function describeObstacle(directory: string, path: string | undefined, code: string | undefined): string {
  const part = path === undefined ? '' : relative(directory, path)
  return IN_THE_WAY.has(code) && part !== '' ? `, with ${part} in the way` : ''
}

async function preparePrivate(path: string): Promise<StateDirectory> {
  try {
    return await prepare(path, 'private')
  } catch (error) {
    // Without a lock no later start would take it for one that was left.
    await rm(path, { recursive: true, force: true }).catch(() => {})
    throw error
  }
}

async function prepare(path: string, kind: StateDirectory['kind']): Promise<StateDirectory> {
  checkLength(path, kind)
  // Users of workers have to get through to their own directory, and need not see the others'.
  await chmod(path, 0o711)
  await makeParts(path)
  const own = ownOf(path)
  const presence = presencePath(own)
  try {
    const generation = await takeLock({ path, own, presence, ledger: ledgerOf(path) })
    const ledger = new Ledger(ledgerOf(path), generation)
    return { path, generation, kind, workers: workersOf(path), own, presence, ledger }
  } catch (error) {
    await withdraw(presence)
    throw error
  }
}

/** @throws `INVALID_OPTION` where a socket would be somewhere else: see {@link MAX_SOCKET_PATH}. */
function checkLength(path: string, kind: StateDirectory['kind']): void {
  const [length, most] = [Buffer.byteLength(path), MAX_SOCKET_PATH - `/${LONGEST_SOCKET}`.length]
  if (length <= most) return
  const expected = `a directory whose path has at most ${most} bytes, as there are sockets in it`
  const note = kind === 'private' ? ', among the temporary files, for want of another one' : ''
  throw new InvalidOptionError('stateDirectory', expected, `${path} (${length} bytes${note})`)
}

async function makeParts(path: string): Promise<void> {
  // The first is what it is known by.
  await makePart(ownOf(path), 0o700)
  await makePart(ledgerOf(path), 0o700)
  await makePart(workersOf(path), 0o711)
}

/** What is removed is what the ledger says, where the workers are: neither may be anybody else's, however it came here. */
async function makePart(path: string, mode: number): Promise<void> {
  await ensureDirectory(path, mode)
  await checkOwner(path)
  // One that was there may be closed to those who have to get through.
  await chmod(path, mode)
}

/**
 * Puts back what somebody has removed, such as a program that clears out directories for temporary files.
 *
 * @throws `INVALID_OPTION` when another user has made one in its place; `STATE_DIRECTORY_IN_USE` when another supervisor has taken it.
 */
export async function mendStateDirectory(state: StateDirectory): Promise<void> {
  const { path, own, generation, workers, presence, ledger } = state
  await makePart(path, 0o711)
  // Before the look for who answers there: who takes it answers before there is a lock.
  const hasLock = existsSync(lockOf(path, generation))
  const isThere = hasLock && existsSync(workers) && existsSync(ledgerOf(path))
  if (isThere && (await isAnnounced(presence))) return
  const successor = await findPresent(own, presence)
  if (successor !== undefined) {
    const owner = `whoever answers at ${JSON.stringify(successor)}, who has made it anew after it was removed`
    throw new StateDirectoryInUseError(path, owner)
  }
  await makeParts(path)
  if (!(await isAnnounced(presence))) await announce(presence)
  if (hasLock) await writeLock(path, generation, await identify(process.pid))
  else await retake(state)
  await ledger.rewrite()
}

async function retake(state: StateDirectory): Promise<void> {
  try {
    await retakeLock(state, state.generation)
  } catch (error) {
    await withdraw(state.presence)
    throw error
  }
}

function ownOf(path: string): string {
  return join(path, 'own')
}

function workersOf(path: string): string {
  return join(path, 'w')
}

function ledgerOf(path: string): string {
  return join(ownOf(path), 'ledger')
}

function partsOf(path: string): Swept {
  return { ledger: ledgerOf(path), workers: workersOf(path) }
}

/** Private directories of this user whose supervisors are dead. */
async function sweepPrivate(): Promise<void> {
  const names = await readdir(temporaryDirectory())
  await Promise.all(
    names
      .filter((name) => PRIVATE_NAME.test(name))
      .map(async (name) => {
        const path = join(temporaryDirectory(), name)
        const parts = [path, ownOf(path), ledgerOf(path), workersOf(path)]
        if ((await Promise.all(parts.map(isOwn))).includes(false)) return
        const newest = await readLock(path).catch(() => undefined)
        // Still being made, or none of ours.
        if (newest === undefined || newest.owner === null) return
        if (newest.owner === undefined && !existsSync(ledgerOf(path))) return
        await withWarning(async () => {
          if ((await findHolder(path, ownOf(path), newest)) !== undefined) return
          if (await sweep(partsOf(path), () => true)) await removePrivate(path)
        })
      }),
  )
}

/** What may not let itself be removed goes first: without its lock the directory would not be found again. */
async function removePrivate(path: string): Promise<void> {
  if (await removeSwept(workersOf(path))) await removeSwept(path)
}

async function makeNamed(path: string): Promise<void> {
  try {
    await ensureDirectory(path, 0o711)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    throw new InvalidOptionError(
      'stateDirectory',
      'a directory, or a path at which one can be made',
      `${path} (${code})`,
    )
  }
}

/** Node's own recursive one never ends where nobody can make a directory, and where that is called ENOENT, as in /proc. */
async function ensureDirectory(path: string, mode: number): Promise<void> {
  try {
    await makeDirectory(path, mode)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST' && (await isDirectory(path))) return
    if (code !== 'ENOENT' || existsSync(dirname(path))) throw error
    await ensureDirectory(dirname(path), mode)
    await ensureDirectory(path, mode)
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isDirectory(),
    () => false, // A link that leads nowhere.
  )
}

async function checkContents(path: string): Promise<void> {
  const names = await readdir(path)
  if (names.includes('own')) return
  const strange = names.find((name) => name !== 'lost+found')
  if (strange === undefined) return
  throw new InvalidOptionError(
    'stateDirectory',
    'an empty directory, or one that was used as such before',
    `${path}, with ${strange} in it`,
  )
}

async function checkOwner(path: string): Promise<void> {
  const problem = await problemOf(path)
  if (problem !== undefined) throw new InvalidOptionError('stateDirectory', ...problem)
}

/** Or not there. */
async function isOwn(path: string): Promise<boolean> {
  return (await problemOf(path).catch(() => undefined)) === undefined
}

/** What keeps a directory from being this user's alone, as what was expected and what was found. */
async function problemOf(path: string): Promise<[expected: string, got: string] | undefined> {
  const stats = await lstat(path)
  const user = process.geteuid?.()
  if (!stats.isDirectory()) return ['a directory itself, not a link to one', path]
  if (user !== undefined && stats.uid !== user) {
    return [`a directory of this user (${user})`, `${path} of user ${stats.uid}`]
  }
  if (process.platform !== 'win32' && (stats.mode & (constants.S_IWGRP | constants.S_IWOTH)) !== 0) {
    return ['a directory that only its owner may write to', path]
  }
  return undefined
}
