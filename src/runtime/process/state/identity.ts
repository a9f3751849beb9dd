import { readFile, readlink } from 'node:fs/promises'
import { readProcess } from '../_proc.ts'

/** Names one process for good: a process id alone is given out again. */
export interface ProcessIdentity {
  readonly pid: number
  /** Clock ticks from the start of the machine to its own; `null` where there is no /proc. */
  readonly startTime: number | null
  /** Which start of the machine; `null` where that cannot be told. */
  readonly bootId: string | null
  /** In which PID namespace it has this id: two containers have one each. `null`, or absent, where that cannot be told. */
  readonly pidNamespace?: string | null
}

/** Whether something that was read is one. What has not got all of it names nobody. */
export function isIdentity(value: unknown): value is ProcessIdentity {
  const { pid, startTime, bootId, pidNamespace } = Object(value) as Unchecked
  const isProcess = Number.isSafeInteger(pid) && (pid as number) > 0
  const isStart = startTime === null || Number.isSafeInteger(startTime)
  return isProcess && isStart && [bootId, pidNamespace ?? null].every((it) => it === null || typeof it === 'string')
}

type Unchecked = { readonly [key in keyof ProcessIdentity]?: unknown }

/** @returns `undefined` when there is no such process any more. */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  if (process.platform !== 'linux') return isThere(pid) ? { pid, startTime: null, bootId: null } : undefined
  const [entry, bootId, pidNamespace] = await Promise.all([readProcess(pid), readBootId(), readPidNamespace()])
  if (entry === undefined || entry.isZombie) return undefined
  return { pid, startTime: entry.startTime, bootId, pidNamespace }
}

/** Whether that very process still runs, as far as can be seen from here: not into another PID namespace. */
export async function isRunning({ pid, startTime, bootId, pidNamespace }: ProcessIdentity): Promise<boolean> {
  const now = await identify(pid)
  if (now === undefined || now.startTime !== startTime || now.bootId !== bootId) return false
  return (pidNamespace ?? null) === null || now.pidNamespace === pidNamespace
}

export async function readBootId(): Promise<string | null> {
  const text = await readFile('/proc/sys/kernel/random/boot_id', 'latin1').catch(() => '')
  return text.trim() || null
}

async function readPidNamespace(): Promise<string | null> {
  return readlink('/proc/self/ns/pid').catch(() => null)
}

function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
