import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import type { Readable } from 'node:stream'
import type { LedgerEntry } from '../state/ledger.ts'
import { inheritedDescriptors } from './descriptors.ts'
import { SupervisedChild } from './supervised-child.ts'

/** A process to be started. */
export interface SpawnRequest {
  readonly command: string
  readonly args: readonly string[]
  readonly cwd: string | undefined
  readonly env: Readonly<Record<string, string>>
  /** What signals go by; see {@link Level.signals}. */
  readonly signals: 'group' | 'wrapper'
  /** What becomes of those that have left its group and not its session, at its end. `left`: whoever started it has other means. */
  readonly session: 'ended' | 'left'
  /** File that the wrapper reads on descriptor 4. */
  readonly filter: string | undefined
}

/** How a process ended, wrappers taken off. */
export interface ProcessEnd {
  readonly exitCode: number | null
  readonly signal: string | null
  /** `wrapper`: the command never ran, as its wrapper failed. `spawner`: who had started it died, and it with it. */
  readonly fault?: 'wrapper' | 'spawner'
}

/** A started process and its group, wherever it was started from. */
export interface SpawnedProcess {
  readonly pid: number
  readonly stdout: Readable
  readonly stderr: Readable
  /** Resolves when the process is gone; what is left of its group has been sent SIGKILL by then. */
  readonly exit: Promise<ProcessEnd>
  /** Resolves when it is still there long after it has been sent SIGKILL. It may end later. */
  readonly stuck: Promise<void>
  /** Resolves when its group is empty, its namespaces, and its session if that is to be ended: with the ids of processes that would not die. */
  readonly emptied: Promise<readonly number[]>
  /** Signals the whole group, or the process alone. Does nothing once it is gone. Never throws. */
  signal(target: 'group' | 'leader', signal: NodeJS.Signals): void
  /** Kills the group at once, while this process exits. Never throws. */
  killNow(): void
}

/** Starts processes. */
export interface Spawner {
  /**
   * Rejects with the system's error, such as `ENOENT`.
   *
   * @param entry by which to find what is left of the process when whoever started it is gone.
   * @param signal aborts when it is no longer wanted: what has to be there before is not waited for any more.
   */
  spawn(request: SpawnRequest, entry: LedgerEntry | undefined, signal?: AbortSignal): Promise<SpawnedProcess>
}

/** Starts processes as children of this one. A fork copies the tables of all its memory, and stalls it meanwhile. */
export const directSpawner: Spawner = {
  async spawn(request) {
    const child = startChild(request, 'pipe')
    // In this very tick: an exit would be missed otherwise.
    if (child.pid !== undefined) return new DirectProcess(child, child.pid, request)
    const [error] = (await once(child, 'error')) as [Error]
    throw error
  },
}

type Stdio = 'ignore' | 'pipe' | number | Readable

/** @param output where stdout and stderr go: `pipe`, or streams with a descriptor. */
export function startChild(request: SpawnRequest, output: 'pipe' | readonly [Readable, Readable]): ChildProcess {
  const [stdout, stderr] = output === 'pipe' ? (['pipe', 'pipe'] as const) : output
  const opened: number[] = []
  const open = (path: string) => {
    const fd = openSync(path, 'r')
    opened.push(fd)
    return fd
  }
  try {
    const stdio: Stdio[] = ['ignore', stdout, stderr]
    if (request.signals === 'wrapper') stdio.push('pipe')
    if (request.filter !== undefined) stdio.push(open(request.filter))
    // Not closed: they may be those of an embedding application.
    const inherited = inheritedDescriptors()
    if (inherited.length > 0) cover(stdio, inherited, open('/dev/null'))
    return spawn(request.command, request.args, {
      cwd: request.cwd,
      env: request.env,
      detached: true, // A process group of its own, so that all of it can be signalled.
      stdio,
      windowsHide: true,
    })
  } catch (error) {
    const highest = Math.max(...inheritedDescriptors())
    if ((error as NodeJS.ErrnoException).code !== 'EINVAL' || highest < 0) throw error
    // The limit was lowered after it was opened: nothing can be put in its place, and nothing but that keeps it from a worker.
    const advice = `close it (${highest}>&-), or raise the limit (ulimit -n)`
    const problem = `this process was started with descriptor ${highest}, beyond its limit on open files; ${advice}`
    throw Object.assign(new Error(problem, { cause: error }), { code: 'EINVAL' })
  } finally {
    for (const fd of opened) closeSync(fd)
  }
}

class DirectProcess extends SupervisedChild implements SpawnedProcess {
  readonly stdout: Readable
  readonly stderr: Readable

  constructor(child: ChildProcess, pid: number, request: SpawnRequest) {
    super(child, pid, request)
    if (!child.stdout || !child.stderr) throw new Error('The child was started without pipes')
    this.stdout = child.stdout
    this.stderr = child.stderr
  }
}

/** Has the child get `substitute` for each of the descriptors that `stdio` says nothing about. */
function cover(stdio: Stdio[], descriptors: readonly number[], substitute: number): void {
  const given = stdio.length
  for (const fd of descriptors) {
    if (fd < given) continue
    // Above 2, that is to leave one as it is.
    while (stdio.length < fd) stdio.push('ignore')
    stdio[fd] = substitute
  }
}
