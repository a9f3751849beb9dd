import { createEnvironment } from '../environment.ts'
import { OutputTail } from '../output.ts'
import { drainPipes } from '../pipes.ts'
import { directSpawner, type SpawnedProcess } from '../spawn/spawned-process.ts'
import type { Level, Wrapping } from './levels.ts'

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

/** Longest time for one trial, in milliseconds. */
export const PROBE_TIMEOUT = 10_000
export const LINUX_ONLY = 'this is Linux only'

/** What a trial is wrapped with, unless it is what is tried out. */
export const NOTHING = {
  network: 'host',
  binds: [],
  limits: {},
  cgroupEntries: [],
  tools: {},
} as const satisfies Wrapping

/** Runs a command as a worker is run, to its end. */
export async function run(
  [command = '', ...args]: readonly string[],
  signals: Level['signals'] = 'group',
  filter?: string,
) {
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

/** Looks at a wrapped command while it runs, for as long as that does and a trial may take, and ends it. */
export async function withRunning<T>(
  [command = '', ...args]: readonly string[],
  filter: string | undefined,
  look: (process: SpawnedProcess, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const env = createEnvironment({})
  const child = await directSpawner.spawn({ command, args, cwd: undefined, env, signals: 'wrapper', filter }, undefined)
  const finishReading = drainPipes(child, { stdout: new OutputTail(), stderr: new OutputTail() })
  const ended = new AbortController()
  void child.exit.then(() => ended.abort(new Error('it ended')))
  try {
    return await look(child, AbortSignal.any([ended.signal, AbortSignal.timeout(PROBE_TIMEOUT)]))
  } finally {
    child.signal('group', 'SIGKILL')
    await child.emptied
    await finishReading()
  }
}

export function unavailable(probe: string, detail: string, fix: string): ProbeResult {
  return { probe, status: 'unavailable', detail, fix }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
