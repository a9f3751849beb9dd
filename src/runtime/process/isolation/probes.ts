import { closeSync, constants } from 'node:fs'
import { join } from 'node:path'
import { Claims } from '../claims.ts'
import { listPids } from '../pids.ts'
import { claimPlace, type Grounds } from '../place.ts'
import { temporaryDirectory } from '../temporary.ts'
import { writeWhole } from '../write-whole.ts'
import { openInside, SOCKET_DIRECTORY } from './inside.ts'
import { ENTRY_FAILED } from './entry.ts'
import { levels, type Wrapping } from './levels.ts'
import type { Mount } from './mounts.ts'
import type { IsolationLevel, IsolationSettings, Limits } from './options.ts'
import { seccompFilter } from './seccomp.ts'
import { Sight } from './sight.ts'
import { findTools, packageOf } from './tools.ts'
import {
  explainPlace,
  LINUX_ONLY,
  messageOf,
  NOTHING,
  run,
  unavailable,
  withRunning,
  type ProbeResult,
} from './trial.ts'
import { findUserObstacle } from './user-obstacle.ts'

/** What a level is tried out with. */
export interface LevelProbe {
  readonly network?: IsolationSettings['network']
  readonly limits?: Pick<Limits, 'disk'>
  /** `memory`: it also has to be reached. */
  readonly socket?: Wrapping['socket']
}

/** Runs `true` wrapped exactly as a worker of that level would be. */
export async function probeLevel(
  grounds: Grounds,
  level: IsolationLevel,
  { network = 'host', limits = {}, socket }: LevelProbe = {},
): Promise<ProbeResult> {
  const probe = `level ${level}${network === 'none' ? ' without network' : ''}`
  const { tools, signals, filters } = levels[level]
  if (tools.length === 0) return { probe, status: 'available', detail: 'needs nothing' }
  if (process.platform !== 'linux') return unavailable(probe, LINUX_ONLY, `use level "group" on ${process.platform}`)
  const found = await findTools()
  for (const tool of tools) {
    if (found[tool] === undefined) return unavailable(probe, `${tool} is not in PATH`, packageOf(tool))
  }
  const filter = filters ? seccompFilter() : undefined
  if (filters && filter === undefined) {
    return unavailable(probe, `no system-call filter for ${process.arch}`, 'use level "namespaces"')
  }
  const claims = new Claims()
  try {
    const user = level === 'full' && isRoot() ? 'own' : 'same'
    const userObstacle = user === 'own' ? await findUserObstacle(grounds, found) : undefined
    if (userObstacle !== undefined) return { probe, status: 'unavailable', ...userObstacle }
    const { directory, uid } = await claimPlace(grounds, { tenant: 'probe', cgroups: [], user, run: 'own' }, claims)
    const file = join(directory.root, 'filter')
    if (filter) await writeWhole(file, filter)
    const wrapping = {
      ...NOTHING,
      network,
      limits,
      tools: found,
      uid,
      directory,
      socket,
      mounts: level === 'full' ? mountsWithoutBinds(grounds, claims) : [],
    } as const
    const wrapper = levels[level].wrap(wrapping)
    const result = await run([...wrapper, 'true'], signals, filter && file, directory.home)
    if (result.exitCode !== 0) {
      return unavailable(probe, `${tools[0]} failed: ${result.output}`, explainBubblewrap(result.output))
    }
    const obstacle = socket === 'memory' ? await findObstacle(wrapper, filter && file, directory.home) : undefined
    if (obstacle === undefined) return { probe, status: 'available', detail: `${tools.join(' and ')} worked` }
    return unavailable(probe, `the socket of a worker could not be reached in it: ${obstacle}`, REACH)
  } catch (error) {
    // A supervisor has a directory of its own: what fails there for a moment is no reason to do without the level.
    const fix = grounds.workers === undefined ? explainPlace(error) : undefined
    if (fix === undefined) throw error
    return unavailable(probe, messageOf(error), fix)
  } finally {
    await claims.release()
  }
}

function mountsWithoutBinds({ root }: Grounds, claims: Claims): readonly Mount[] {
  const sight = new Sight({ binds: [], cwd: undefined, supervisor: root, temporary: temporaryDirectory() })
  const { mounts, hold } = sight.open()
  claims.add(hold)
  return mounts
}

const REACH =
  'let this process see into others (CAP_SYS_PTRACE; docker run --cap-add SYS_PTRACE), or leave the limit out'

/** What keeps us from reaching into a sandbox, if anything does. */
async function findObstacle(
  wrapper: readonly string[],
  filter: string | undefined,
  home: string,
): Promise<string | undefined> {
  try {
    await withRunning(wrapper, filter, home, (wrapperId) => {
      closeSync(openInside(wrapperId, SOCKET_DIRECTORY, constants.O_RDONLY | constants.O_DIRECTORY))
    })
    return undefined
  } catch (error) {
    return messageOf(error)
  }
}

/** Whether a process can be made to die with the one that started it. */
export async function probeParentDeathSignal(): Promise<ProbeResult> {
  const probe = 'parent-death signal'
  if (process.platform !== 'linux') return unavailable(probe, LINUX_ONLY, 'the spawn helper ends workers without it')
  const { setpriv } = await findTools()
  if (setpriv === undefined) return unavailable(probe, 'setpriv is not in PATH', packageOf('setpriv'))
  const result = await run([...levels.group.wrap({ ...NOTHING, tools: { setpriv } }), 'true'])
  if (result.exitCode === 0) return { probe, status: 'available', detail: 'setpriv --pdeathsig worked' }
  return unavailable(probe, `setpriv --pdeathsig failed: ${result.output}`, packageOf('setpriv'))
}

/** Whether processes can be listed: where workers have no cgroup, what has left their group is found in that list or nowhere. */
export async function probeProcessList(): Promise<ProbeResult> {
  const probe = 'list of processes'
  if (process.platform !== 'linux') return unavailable(probe, LINUX_ONLY, 'have workers start no daemons')
  const pids = await listPids()
  if (pids !== undefined) return { probe, status: 'available', detail: `it has ${pids.length}` }
  const fix =
    'let this user list /proc (mode 555) or the cgroups below /sys/fs/cgroup; or use level "namespaces", or run as root'
  return unavailable(probe, 'neither /proc nor a hierarchy of cgroups can be listed', fix)
}

/** Whether the private directory can be given a size, and what serves on a socket be reached then. */
export async function probeDisk(
  grounds: Grounds,
  level: IsolationLevel,
  disk: number,
  socket: Wrapping['socket'],
): Promise<ProbeResult> {
  const probe = 'limit disk'
  if (level !== 'full') return unavailable(probe, `it is for level "full" only`, 'see what that level lacks')
  return { ...(await probeLevel(grounds, level, { limits: { disk }, socket })), probe }
}

/** Whether a limit on open files can be set. */
export async function probeFiles(files: number): Promise<ProbeResult> {
  const probe = 'limit files'
  if (process.platform === 'win32') return unavailable(probe, 'there is no such limit on Windows', 'leave it out')
  const result = await run([...levels.none.wrap({ ...NOTHING, limits: { files } }), 'true'])
  if (result.exitCode === 0) return { probe, status: 'available', detail: `ulimit -n ${files} worked` }
  if (result.exitCode !== ENTRY_FAILED) {
    return unavailable(probe, `not even true runs with ${files} open files: ${result.output}`, 'ask for more')
  }
  const fix = 'ask for no more than the hard limit (ulimit -Hn), or raise that'
  return unavailable(probe, `ulimit -n ${files} was refused`, fix)
}

export function isRoot(): boolean {
  return process.geteuid?.() === 0
}

function explainBubblewrap(output: string): string {
  if (
    /No permissions to creat|creating new namespace failed|Operation not permitted|setting up uid map/i.test(output)
  ) {
    return (
      'let ordinary users make user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone=1, ' +
      'kernel.apparmor_restrict_unprivileged_userns=0); in a container, run it with a seccomp profile that lets them'
    )
  }
  if (/proc/.test(output)) return 'unmask /proc: in a container, run it with --security-opt systempaths=unconfined'
  return 'see what bwrap says when you run it by hand'
}
