import { accessSync, closeSync, constants, openSync, readSync, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { LaunchContext, WorkerInstance } from '../backend.ts'
import { InvalidOptionError } from '../errors.ts'
import { reserveAddress, type ReservedAddress } from './address.ts'
import { planDirectories } from './cgroup/limits.ts'
import { Claims } from './claims.ts'
import { temporaryOf, type WorkerDirectory } from './directory.ts'
import { createEnvironment } from './environment.ts'
import { statsOf } from './file.ts'
import { pathIn } from './follow.ts'
import type { Host } from './host.ts'
import { ProcessInstance } from './instance.ts'
import { environmentOf, variableBefore } from './isolation/entry.ts'
import { levels, type Wrapping } from './isolation/levels.ts'
import type { Limits } from './isolation/options.ts'
import type { View } from './isolation/sight.ts'
import type { ProcessSettings } from './options.ts'
import { claimPlace, type Place } from './place.ts'
import type { Remains } from './remains.ts'
import type { SpawnRequest } from './spawn/spawned-process.ts'
import { planSocket } from './socket-plan.ts'
import type { LedgerEntry } from './state/ledger.ts'
import type { Template } from './template.ts'
import { writeWhole } from './write-whole.ts'

/** As much of the first line of a script as the kernel reads (BINPRM_BUF_SIZE). */
const MAX_FIRST_LINE = 256

/** What every start of a worker of one backend has in common. */
export interface LaunchSetup {
  readonly settings: ProcessSettings
  readonly template: Template
  readonly host: Host
  /** Where the processes are put down that could not be killed, as long as they may be there. */
  readonly left: Set<Remains>
}

/** What there is for one worker before it is started. */
interface Holdings {
  readonly place: Place | undefined
  readonly reserved: ReservedAddress
  /** What it sees of the file system; absent: all that its user does. */
  readonly view: View | undefined
}

/** Starts the process of one worker. Rejects, with nothing left behind, when it cannot be started or is not wanted. */
export async function launchProcess(setup: LaunchSetup, { workerId, signal }: LaunchContext): Promise<WorkerInstance> {
  const { settings, template, host, left } = setup
  signal.throwIfAborted()
  const claims = new Claims()
  try {
    const place = await claim(setup, workerId, claims)
    const plan = place && template.uses.has('socket') ? planSocket(place, host.sandbox.level) : undefined
    const reserved = await reserveAddress(template.uses, plan)
    claims.add(reserved)
    const view = host.sight?.open()
    if (view) claims.add(view.hold)
    const request = await toRequest(setup, workerId, { place, reserved, view })
    signal.throwIfAborted()
    const spawned = await spawn(request, place?.entry)
    place?.entry?.recordProcess(spawned.pid)
    return new ProcessInstance(spawned, {
      workerId,
      settings,
      reserved,
      claims,
      release: host.release,
      cgroup: place?.cgroup,
      directory: host.sandbox.level === 'group' && place?.cgroup === undefined ? place?.directory.root : undefined,
      left,
    })
  } catch (error) {
    await claims.release()
    throw isShortage(error) ? toLaunchError(error as NodeJS.ErrnoException, settings, undefined) : error
  }

  async function spawn(request: SpawnRequest, entry: LedgerEntry | undefined) {
    try {
      // Behind a wrapper it would be the wrapper that does not find it, and says so in its own words.
      if (request.command !== settings.command) findCommand(settings, request.env.PATH)
      return await host.spawner.spawn(request, entry, signal)
    } catch (error) {
      throw toLaunchError(error as NodeJS.ErrnoException, settings, request.env.PATH)
    }
  }
}

async function claim({ template, host }: LaunchSetup, tenant: string, claims: Claims): Promise<Place | undefined> {
  const { level, cgroups, limits, dropsUser } = host.sandbox
  const isNeeded = level !== 'none' || cgroups !== undefined || template.uses.has('socket') || template.uses.has('dir')
  if (!isNeeded) return undefined
  const plans = cgroups === undefined ? [] : planDirectories(cgroups, limits)
  const user = dropsUser ? 'own' : 'same'
  const run = socketOf(template, limits) === 'disk' ? 'own' : 'none'
  return claimPlace(host, { tenant, cgroups: plans, user, run }, claims)
}

function socketOf({ uses }: Template, { disk }: Limits): Wrapping['socket'] {
  if (!uses.has('socket')) return undefined
  return disk === undefined ? 'disk' : 'memory'
}

async function toRequest(
  { settings, template, host }: LaunchSetup,
  workerId: string,
  { place, reserved: { port, socket }, view }: Holdings,
): Promise<SpawnRequest> {
  const { sandbox } = host
  const { directory, uid, cgroup } = place ?? {}
  const values = {
    id: workerId,
    ...(port !== undefined && { port }),
    ...(socket !== undefined && { socket }),
    ...(directory && { dir: directory.home }),
  }
  const { args, env: given } = template.render(values)
  const home = sandbox.level === 'none' || directory === undefined ? {} : homeVariables(directory)
  const env = createEnvironment({ ...home, ...(port !== undefined && { PORT: String(port) }), ...given })
  const level = levels[sandbox.level]
  const wrapping: Wrapping = {
    network: sandbox.network,
    mounts: view?.mounts ?? [],
    limits: sandbox.limits,
    cgroupEntries: cgroup?.entries ?? [],
    uid,
    tools: sandbox.tools,
    directory,
    socket: socketOf(template, sandbox.limits),
    cwd: view?.cwd,
    env,
  }
  const wrapper = level.wrap(wrapping)
  const variable = variableBefore(settings.command, wrapper, wrapping)
  if (variable !== undefined) {
    throw new InvalidOptionError(
      'command',
      `one without "=", as some variables (${variable.split('=')[0]}) are given by env(1)`,
      settings.command,
    )
  }
  const [command = settings.command, ...rest] = [...wrapper, settings.command, ...args]
  return {
    command,
    args: rest,
    cwd: settings.cwd,
    env: environmentOf(wrapping),
    signals: level.signals,
    // Otherwise its cgroup has them, or its namespaces.
    session: level.signals === 'group' && cgroup === undefined ? 'ended' : 'left',
    filter: sandbox.filter && directory && (await writeFilter(directory, sandbox.filter)),
  }
}

function homeVariables({ home }: WorkerDirectory): Record<string, string | undefined> {
  const temporary = temporaryOf(home)
  // Windows knows no HOME, and its programs look for the place of temporary files under these names.
  if (process.platform === 'win32') return { TEMP: temporary, TMP: temporary }
  return { HOME: home, TMPDIR: temporary, TEMP: undefined, TMP: undefined }
}

async function writeFilter({ root }: WorkerDirectory, filter: Buffer): Promise<string> {
  const path = join(root, 'filter')
  await writeWhole(path, filter)
  return path
}

/** What there is under the name of the command, where the system looks for it. */
function candidates({ command, cwd }: ProcessSettings, path = ''): string[] {
  const directories = command.includes('/') ? [''] : path.split(delimiter)
  return directories.map((directory) => pathIn(cwd ?? '.', pathIn(directory || '.', command))).filter(exists)
}

/** @throws the error that the system would give for the command. */
function findCommand(settings: ProcessSettings, path: string | undefined): void {
  const found = candidates(settings, path)
  const executable = found.find((candidate) => isExecutable(candidate))
  if (executable !== undefined && hasInterpreter(executable)) return
  const code = found.length > 0 && executable === undefined ? 'EACCES' : 'ENOENT'
  const syscall = `spawn ${settings.command}`
  throw Object.assign(new Error(syscall), { code, syscall })
}

/** A script is started by the program that its first line names. */
function hasInterpreter(path: string): boolean {
  const file = openSync(path, 'r')
  try {
    const start = Buffer.alloc(MAX_FIRST_LINE)
    readSync(file, start)
    const [, interpreter] = /^#![ \t]*([^\s\0]+)/.exec(start.toString('latin1')) ?? []
    return interpreter === undefined || exists(interpreter)
  } finally {
    closeSync(file)
  }
}

function toLaunchError(cause: NodeJS.ErrnoException, settings: ProcessSettings, path: string | undefined): Error {
  return new Error(`Cannot start ${JSON.stringify(settings.command)}: ${explain(cause, settings, path)}`, { cause })
}

function isShortage(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown }
  return code === 'EMFILE' || code === 'ENFILE'
}

function explain(cause: NodeJS.ErrnoException, settings: ProcessSettings, path: string | undefined): string {
  const { command, cwd } = settings
  if (isShortage(cause)) return `the limit on open files is reached (${cause.code}); raise it (ulimit -n)`
  if (cause.syscall === 'write') {
    return `its output could not be connected (${cause.code}), as happens where the limit on open files is reached; raise it (ulimit -n)`
  }
  if (cause.syscall === 'connect') {
    return (
      `the socket for its output, in the state directory, cannot be reached (${cause.code}); if somebody has removed that, ` +
      'the next start puts it back: name a state directory that nothing clears out (stateDirectory)'
    )
  }
  if (cause.syscall?.startsWith('spawn') !== true) return cause.message
  // The system's error is the same whether the command or the directory is missing.
  if (cwd !== undefined && !isDirectory(cwd)) {
    return `its working directory ${JSON.stringify(cwd)} is not a directory; correct the option cwd`
  }
  const isPath = command.includes('/')
  const found = candidates(settings, path)
  if (cause.code === 'ENOENT' && isPath && found.length > 0) {
    return 'the file exists, but the interpreter in its first line (#!) or its dynamic loader does not; install that'
  }
  if (cause.code === 'ENOENT') {
    return isPath
      ? 'there is no such file; correct the path, which is relative to the working directory'
      : `it is not in the worker's PATH${path === undefined ? ', which is not set' : ''}; install it, or give its path`
  }
  if (cause.code === 'EACCES' && found.length > 0 && found.every(isDirectory)) {
    return 'it is a directory; give the path of the program in it'
  }
  if (cause.code === 'EACCES') return 'it is not executable for this user; correct its permissions (chmod +x)'
  if (cause.code === 'E2BIG') {
    return 'its arguments and environment are more than the system takes (E2BIG); pass what is large in files, or by its input'
  }
  if (cause.code === 'EAGAIN')
    return 'the limit on processes is reached (EAGAIN); raise it (ulimit -u, pids limit of the cgroup)'
  return cause.message
}

function isDirectory(path: string): boolean {
  return statsOf(path)?.isDirectory() === true
}

function exists(path: string): boolean {
  try {
    accessSync(path, constants.F_OK)
    return true
  } catch {
    return false
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}
