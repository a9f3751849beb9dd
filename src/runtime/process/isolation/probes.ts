import { access, constants, writeFile } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import { findHierarchies } from '../cgroup/hierarchies.ts'
import type { Controller, Hierarchies } from '../cgroup/hierarchies.ts'
import { enableControllers } from '../cgroup/delegation.ts'
import { findController, planDirectories } from '../cgroup/limits.ts'
import { Claims } from '../claims.ts'
import { createEnvironment } from '../environment.ts'
import { OutputTail } from '../output.ts'
import { drainPipes } from '../pipes.ts'
import { claimPlace, type Grounds } from '../place.ts'
import { directSpawner } from '../spawn/spawned-process.ts'
import { ENTRY_FAILED, levels, type Level, type Tools, type Wrapping } from './levels.ts'
import type { IsolationLevel, Limits } from './options.ts'
import { seccompFilter } from './seccomp.ts'

/** Something that a level or a limit needs, tried out. */
export interface ProbeResult {
  /** What was tried. */
  readonly probe: string
  readonly status: 'available' | 'unavailable'
  /** How it is had, or what went wrong. */
  readonly detail: string
  /** What the operator can do about it. */
  readonly fix?: string
}

const PROBE_TIMEOUT = 10_000
const LINUX_ONLY = 'this is Linux only'

/** Runs `true` wrapped exactly as a worker of that level would be. */
export async function probeLevel(
  grounds: Grounds,
  level: IsolationLevel,
  network: Wrapping['network'] = 'host',
): Promise<ProbeResult> {
  const probe = network === 'none' ? `level ${level} without network` : `level ${level}`
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
    const { directory, uid } = await claimPlace(grounds, { tenant: 'probe', cgroups: [], user }, claims)
    const file = join(directory.root, 'filter')
    if (filter) await writeFile(file, filter)
    const wrapping = { ...NOTHING, network, tools: found, uid, directory, supervisor: grounds.root }
    const result = await run([...levels[level].wrap(wrapping), 'true'], signals, filter && file)
    if (result.exitCode === 0) return { probe, status: 'available', detail: `${tools.join(' and ')} worked` }
    return unavailable(probe, `${tools[0]} failed: ${result.output}`, explainBubblewrap(result.output))
  } finally {
    await claims.release()
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

/** Makes a cgroup, has a process enter it as a worker would, and removes it again. */
export async function probeCgroup(grounds: Grounds, hierarchies: Hierarchies, limits: Limits): Promise<ProbeResult> {
  const wanted = Object.keys(limits) as Controller[]
  const probe = wanted.length === 0 ? 'cgroup' : `limit ${wanted.join(', ')}`
  if (process.platform !== 'linux') return unavailable(probe, LINUX_ONLY, 'leave the limits out')
  for (const controller of wanted) {
    if (findController(hierarchies, controller) !== undefined) continue
    return unavailable(
      probe,
      `no cgroup hierarchy with the ${controller} controller is mounted`,
      'mount /sys/fs/cgroup; in a container, give it its cgroup (--cgroupns private and a writable /sys/fs/cgroup)',
    )
  }
  const cgroups = planDirectories(hierarchies, limits)
  if (cgroups.length === 0) return unavailable(probe, 'no cgroup hierarchy is mounted', 'mount /sys/fs/cgroup')
  const claims = new Claims()
  try {
    await enableControllers(hierarchies, wanted)
    const { cgroup } = await claimPlace(grounds, { tenant: 'probe', cgroups, user: 'same' }, claims)
    const wrapping = { ...NOTHING, cgroupEntries: cgroup?.entries ?? [] }
    const result = await run([...levels.none.wrap(wrapping), 'true'])
    if (result.exitCode !== 0) throw new Error(`a process could not enter it: ${result.output}`)
    return { probe, status: 'available', detail: cgroups.map(({ kind, parent }) => `${kind} in ${parent}`).join(', ') }
  } catch (error) {
    return unavailable(probe, messageOf(error), explainCgroup(error))
  } finally {
    await claims.release()
  }
}

/** Whether a limit on open files can be set. */
export async function probeFiles(files: number): Promise<ProbeResult> {
  const probe = 'limit files'
  if (process.platform === 'win32') return unavailable(probe, 'there is no such limit on Windows', 'leave it out')
  const result = await run([...levels.none.wrap({ ...NOTHING, limits: { files } }), 'true'])
  if (result.exitCode === 0) return { probe, status: 'available', detail: `ulimit -n ${files} worked` }
  const detail = result.exitCode === ENTRY_FAILED ? `ulimit -n ${files} was refused` : result.output
  return unavailable(probe, detail, 'ask for no more than the hard limit (ulimit -Hn), or raise that')
}

export function isRoot(): boolean {
  return process.geteuid?.() === 0
}

const NOTHING = {
  network: 'host',
  binds: [],
  limits: {},
  cgroupEntries: [],
  tools: {},
} as const satisfies Wrapping

function unavailable(probe: string, detail: string, fix: string): ProbeResult {
  return { probe, status: 'unavailable', detail, fix }
}

/** Runs a command as a worker is run, to its end. */
async function run([command = '', ...args]: readonly string[], signals: Level['signals'] = 'group', filter?: string) {
  try {
    const env = createEnvironment({})
    const child = await directSpawner.spawn({ command, args, cwd: undefined, env, signals, filter }, undefined)
    const limit = setTimeout(() => child.signal('group', 'SIGKILL'), PROBE_TIMEOUT)
    const output = new OutputTail()
    const finishReading = drainPipes(child, { stdout: new OutputTail(), stderr: output })
    const { exitCode, signal } = await child.exit
    clearTimeout(limit)
    await child.emptied
    await finishReading()
    const end = signal === null ? `exit status ${exitCode}` : `ended by ${signal}`
    return { exitCode, output: output.lines().at(-1) ?? end }
  } catch (error) {
    return { exitCode: null, output: messageOf(error) }
  }
}

/** Where the programs are that levels are made of. */
export async function findTools(): Promise<Tools> {
  const [bwrap, setpriv] = await Promise.all([findTool('bwrap'), findTool('setpriv')])
  return { bwrap, setpriv }
}

async function findTool(name: string): Promise<string | undefined> {
  for (const directory of (process.env.PATH ?? '').split(':').filter(isAbsolute)) {
    const path = join(directory, name)
    const isFound = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    )
    if (isFound) return path
  }
  return undefined
}

function packageOf(tool: string): string {
  return tool === 'bwrap'
    ? 'install bubblewrap (Debian, Ubuntu: apt-get install bubblewrap)'
    : `install the ${tool} of util-linux (Debian, Ubuntu: apt-get install util-linux)`
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

function explainCgroup(error: unknown): string {
  const { code } = ((error as Error).cause ?? error) as NodeJS.ErrnoException
  if (code === 'EBUSY') return 'start this process in a cgroup of its own (systemd: Delegate=yes)'
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    return 'run as root, or have the cgroup given to this user (systemd: Delegate=yes); in a container, mount it writable'
  }
  return 'see whether the cgroup of this process can hold others (/proc/self/cgroup)'
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** The hierarchies that this process was in when it was first asked: entering a leaf must not nest the next one in it. */
let hierarchies: Promise<Hierarchies> | undefined

export function ownHierarchies(): Promise<Hierarchies> {
  hierarchies ??= findHierarchies()
  return hierarchies
}
