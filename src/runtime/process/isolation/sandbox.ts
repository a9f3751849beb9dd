import type { Hierarchies } from '../cgroup/hierarchies.ts'
import { cgroupLimits } from '../cgroup/limits.ts'
import { SandboxUnavailableError } from '../../errors.ts'
import type { Grounds } from '../place.ts'
import { levels, type Tools } from './levels.ts'
import type { IsolationLevel, IsolationSettings, Limits } from './options.ts'
import { ownHierarchies, probeCgroup } from './cgroup-probe.ts'
import { isRoot, probeDisk, probeFiles, probeLevel, probeParentDeathSignal, probeProcessList } from './probes.ts'
import { seccompFilter } from './seccomp.ts'
import { findTools } from './tools.ts'
import type { ProbeResult } from './trial.ts'

/** What the workers of one backend get: what was asked for, or with `degrade` what of it can be had. */
export interface Sandbox {
  readonly level: IsolationLevel
  readonly network: IsolationSettings['network']
  readonly limits: Limits
  /** Where their cgroups are made; absent: they have none. */
  readonly cgroups: Hierarchies | undefined
  readonly tools: Tools
  /** Every worker gets a user of its own. */
  readonly dropsUser: boolean
  readonly filter: Buffer | undefined
  /** What was asked for and could not be had. */
  readonly missing: readonly Missing[]
}

export interface Missing {
  /** What was asked for, such as `isolation "full"` or `limits.memory`. */
  readonly wanted: string
  readonly probe: string
  readonly detail: string
}

export interface SandboxRequest {
  readonly isolation: IsolationSettings
  readonly limits: Limits
  readonly onUnavailable: 'fail' | 'degrade'
  /** Placeholders of the command. */
  readonly uses: ReadonlySet<string>
}

/**
 * Tries out everything that was asked for, by doing it.
 *
 * @throws `SANDBOX_UNAVAILABLE` for the first thing that cannot be had, unless it may degrade.
 */
export async function prepareSandbox(request: SandboxRequest, grounds: Grounds): Promise<Sandbox> {
  const missing: Missing[] = []
  const isMissing = ({ status, probe, detail, fix }: ProbeResult, wanted: string) => {
    if (status === 'available') return false
    if (request.onUnavailable === 'fail') throw new SandboxUnavailableError(wanted, { probe, detail, fix: fix ?? '' })
    missing.push({ wanted, probe, detail })
    process.emitWarning(`${wanted} is not to be had (${probe}: ${detail}); going on without`, 'CorralWarning')
    return true
  }
  const { level, network } = await findLevel(request.isolation, grounds, isMissing)
  const { cgroups, limits } = await findLimits(request, level, grounds, isMissing)
  if (level === 'group' && cgroups === undefined && process.platform === 'linux') await warnOfDaemons()
  return {
    level,
    network,
    limits,
    cgroups,
    tools: await toolsFor(level),
    dropsUser: level === 'full' && isRoot(),
    filter: levels[level].filters ? seccompFilter() : undefined,
    missing,
  }
}

async function toolsFor(level: IsolationLevel): Promise<Tools> {
  const tools = await findTools()
  // The setpriv of busybox knows no such signal.
  if (level === 'group' && (await probeParentDeathSignal()).status === 'unavailable') return {}
  return tools
}

/** Told, and no {@link Missing}: no level but this promises less, and it was asked for. */
async function warnOfDaemons(): Promise<void> {
  const { status, detail, fix } = await probeProcessList()
  if (status === 'available') return
  const message = `What leaves the process group of a worker cannot be found, and stays when the gateway is gone: ${detail}; ${fix}`
  process.emitWarning(message, 'CorralWarning')
}

type IsMissing = (result: ProbeResult, wanted: string) => boolean

async function findLevel({ level, network }: IsolationSettings, grounds: Grounds, isMissing: IsMissing) {
  let found: IsolationLevel = level
  for (;;) {
    const wanted = `isolation ${JSON.stringify(found)}`
    const { below } = levels[found]
    if (below === undefined || !isMissing(await probeLevel(grounds, found), wanted)) break
    found = below
  }
  if (network === 'host') return { level: found, network }
  const without = await probeLevel(grounds, 'full', { network })
  return { level: found, network: isMissing(without, 'isolation.network "none"') ? ('host' as const) : network }
}

async function findLimits(request: SandboxRequest, level: IsolationLevel, grounds: Grounds, isMissing: IsMissing) {
  const { limits: wanted, uses } = request
  const { files, disk } = wanted
  const socket = uses.has('socket') ? 'memory' : undefined
  const { cgroups, limits } = await findCgroups(wanted, level, grounds, isMissing)
  if (files !== undefined && !isMissing(await probeFiles(files), 'limits.files')) limits.files = files
  if (disk !== undefined && !isMissing(await probeDisk(grounds, level, disk, socket), 'limits.disk')) limits.disk = disk
  return { cgroups, limits }
}

async function findCgroups(wanted: Limits, level: IsolationLevel, grounds: Grounds, isMissing: IsMissing) {
  const limits: { -readonly [K in keyof Limits]: Limits[K] } = {}
  for (const name of cgroupLimits) if (wanted[name] !== undefined) limits[name] = wanted[name]
  const isLimited = () => Object.keys(limits).length > 0
  // Without a limit it is a help and no promise: to kill what has left the process group.
  if (level === 'none' && !isLimited()) return { limits, cgroups: undefined }
  const hierarchies = await ownHierarchies()
  const hasAll = async () => (await probeCgroup(grounds, hierarchies, limits)).status === 'available'
  if (await hasAll()) return { limits, cgroups: hierarchies }
  if (!isLimited()) return { limits, cgroups: undefined }
  // Which of them is it?
  for (const name of cgroupLimits) {
    const limit = limits[name]
    if (limit === undefined) continue
    if (isMissing(await probeCgroup(grounds, hierarchies, { [name]: limit }), `limits.${name}`)) delete limits[name]
  }
  const isUseful = isLimited() || (level !== 'none' && (await hasAll()))
  return { limits, cgroups: isUseful ? hierarchies : undefined }
}
