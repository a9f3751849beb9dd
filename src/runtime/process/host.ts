import { InvalidOptionError } from '../errors.ts'
import { cgroupLimits } from './cgroup/limits.ts'
import type { Claims } from './claims.ts'
import { prepareSandbox, type Sandbox, type SandboxRequest } from './isolation/sandbox.ts'
import { Sight } from './isolation/sight.ts'
import type { Grounds } from './place.ts'
import { HelperSpawner } from './spawn/helper-spawner.ts'
import { directSpawner, type Spawner } from './spawn/spawned-process.ts'
import { Anchor } from './state/anchor.ts'
import {
  closeStateDirectory,
  mendStateDirectory,
  openStateDirectory,
  usableDirectory,
} from './state/state-directory.ts'
import { temporaryDirectory } from './temporary.ts'

/** What could not be killed before has as many milliseconds to be gone after all. */
const LAST_TRY = 1_000

/** What the workers of one backend share on this machine. */
export interface Host extends Grounds {
  readonly sandbox: Sandbox
  readonly spawner: Spawner
  /** What workers see of the file system; absent: all that their user does. */
  readonly sight?: Sight | undefined
  /**
   * Releases what a worker held whose processes are gone. Resolves when that need not be waited for: it can be before it is
   * done, and {@link Host.close} waits for the rest.
   */
  readonly release: (claims: Claims) => Promise<void>
  /** Resolves when nothing of it is left. Every worker must be gone. */
  close(): Promise<void>
}

export interface HostRequest extends SandboxRequest {
  readonly stateDirectory?: string | undefined
  readonly cwd?: string | undefined
}

/**
 * Opens what workers share: a state directory, and a helper that starts them and outlives this process for as long as it takes
 * to end them. Not for workers that are neither isolated nor limited, unless a state directory is asked for.
 *
 * @param signal aborts when it is no longer wanted: then it rejects as soon as it can, if it does not resolve.
 * @throws `SANDBOX_UNAVAILABLE`, `STATE_DIRECTORY_IN_USE`, `INVALID_OPTION`, or `WORKER_START_FAILED` when the helper cannot be started.
 */
export async function openHost(request: HostRequest, signal?: AbortSignal): Promise<Host> {
  if (isPlain(request) || process.platform === 'win32') return plainHost(request)
  const state = await openStateDirectory(request.stateDirectory)
  const { binds, level } = request.isolation
  const wanted = new Sight({ binds, cwd: request.cwd, supervisor: state.path, temporary: temporaryDirectory() })
  let opened: Anchor | undefined
  try {
    if (level === 'full') wanted.open().hold.releaseNow()
    const grounds = { root: state.path, workers: state.workers, ledger: state.ledger }
    const prepare = () => prepareSandbox(request, { ...grounds, mend: () => mendStateDirectory(state) })
    const sandbox = await usableDirectory(state.path, prepare)
    const sight = sandbox.level === 'full' ? wanted : undefined
    const anchor = sight && (await Anchor.at(state.path))
    opened = anchor
    const spawner = await HelperSpawner.open(state, signal)
    const releasing = new Set<Promise<void>>()
    // A session is not to wait for the removal of files to hear that it is lost.
    const release = async (claims: Claims) => {
      const released = claims.release().then(() => void releasing.delete(released))
      releasing.add(released)
    }
    const close = async () => {
      await Promise.all(releasing)
      await anchor?.close()
      await spawner.close()
      await closeStateDirectory(state, LAST_TRY)
    }
    const putBack = async () => {
      const isReplaced = anchor !== undefined && !(await usableDirectory(state.path, () => anchor.holds()))
      // In one that is made anew, nothing would hide the next worker from those that run, but for a user of its own.
      if (isReplaced && sight?.isBare && !sandbox.dropsUser) throw displaced(state.path)
      await mendStateDirectory(state)
      if (isReplaced) await anchor.renew()
      await spawner.mend()
    }
    let mending: Promise<void> | undefined
    // Starts that are under way together find the same things missing.
    const mend = () => {
      mending ??= putBack().finally(() => {
        mending = undefined
      })
      return mending
    }
    return { ...grounds, mend, sandbox, spawner, sight, release, close }
  } catch (error) {
    await opened?.close()
    await closeStateDirectory(state)
    throw error
  }
}

function displaced(path: string): InvalidOptionError {
  const what =
    'a directory that nobody removes or replaces while there are workers, which could look into the one in its place'
  const expected = `${what} (a start succeeds again when all of those have ended)`
  return new InvalidOptionError('stateDirectory', expected, path)
}

function isPlain({ isolation, limits, stateDirectory }: HostRequest): boolean {
  const isLimited = Object.values(limits).some((limit) => limit !== undefined)
  return isolation.level === 'none' && !isLimited && stateDirectory === undefined
}

/**
 * Workers are children of this process, and nothing of them is written down: so that nothing can be left of a cgroup, they
 * have one only for the limits that need it.
 */
export async function plainHost(request: HostRequest): Promise<Host> {
  const { cgroups, ...rest } = await prepareSandbox(request, {})
  const isLimited = cgroupLimits.some((name) => rest.limits[name] !== undefined)
  const sandbox = { ...rest, cgroups: isLimited ? cgroups : undefined }
  return { sandbox, spawner: directSpawner, release: (claims) => claims.release(), close: async () => {} }
}
