import { readFileSync } from 'node:fs'
import { readdir, readFile, readlink } from 'node:fs/promises'
import { uptime } from 'node:os'
import { listPids } from './pids.ts'
import { shared } from './shared.ts'

/** `USER_HZ`, the same on every Linux. */
const TICKS_PER_SECOND = 100

/** One line of the process table, of Linux's /proc. */
export interface ProcessEntry {
  readonly pid: number
  /** Exited with all its threads, and only waiting to be reaped: it holds no memory, no file and no port. */
  readonly isZombie: boolean
  /** By SIGSTOP or a debugger: until it is let go on, it does nothing. */
  readonly isStopped: boolean
  readonly parent: number
  readonly group: number
  readonly session: number
  /** When it started, in clock ticks since the machine did: with its id it names a process for good. */
  readonly startTime: number
}

/** Every process that can be seen. Empty where they cannot be listed. */
export const listProcesses = shared(async (): Promise<readonly ProcessEntry[]> => {
  const entries = await Promise.all(((await listPids()) ?? []).map(readProcess))
  return entries.filter((entry) => entry !== undefined)
})

/** What {@link ProcessEntry.startTime} of a process would be that started now, or less. */
export function processClock(): number {
  // A container may have an uptime of its own, and the other clock stands still while the machine is suspended.
  const monotonic = Number(process.hrtime.bigint()) / 1e9
  // The first has two decimals to begin with.
  return Math.max(Math.round(uptime() * TICKS_PER_SECOND), Math.floor(monotonic * TICKS_PER_SECOND))
}

/**
 * Inodes of the sockets that the process has open.
 *
 * @returns `undefined` when the system does not let us look, an empty set when the process is gone.
 */
export async function socketInodes(pid: number): Promise<ReadonlySet<string> | undefined> {
  const directory = `/proc/${pid}/fd`
  try {
    const descriptors = await readdir(directory)
    // One that was closed since the listing is no reason to give up.
    const links = await Promise.all(descriptors.map((fd) => readlink(`${directory}/${fd}`).catch(() => '')))
    return new Set(links.flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []))
  } catch (error) {
    return isGone(error) ? new Set() : undefined
  }
}

/** @returns `undefined` when there is no such process, or none that we may see. */
export async function readProcess(pid: number): Promise<ProcessEntry | undefined> {
  return parseStat(pid, await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => ''))
}

/** The same, within this tick. */
export function readProcessNow(pid: number): ProcessEntry | undefined {
  return parseStat(pid, readNow(`/proc/${pid}/stat`))
}

/** Whether the process is the init of a namespace of process ids below ours. */
export function isNamespaceInit(pid: number): boolean {
  // Its ids, from our namespace down to its own.
  return /^NSpid:(\s+\d+)+\s+1$/m.test(readNow(`/proc/${pid}/status`))
}

function parseStat(pid: number, stat: string): ProcessEntry | undefined {
  // The program's name stands in parentheses and may hold spaces and parentheses itself.
  const [state, parent, group, session, ...others] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  if (state === undefined || session === undefined) return undefined
  // Field 20 of proc(5): a process whose first thread has ended alone is called a zombie, too.
  const isZombie = (state === 'Z' || state === 'X') && Number(others[13]) <= 1
  const isStopped = state === 'T' || state === 't'
  const startTime = Number(others[15]) // Field 22 of proc(5).
  return { pid, isZombie, isStopped, parent: Number(parent), group: Number(group), session: Number(session), startTime }
}

/** Ids of the processes that this one has started and not reaped. Empty when it is gone. */
export function childrenOf(pid: number): number[] {
  return readNow(`/proc/${pid}/task/${pid}/children`)
    .split(' ')
    .map(Number)
    .filter((child) => child > 1)
}

function readNow(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return '' // Gone, or not ours to see.
  }
}

function isGone(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code
  return code === 'ENOENT' || code === 'ESRCH'
}
