import { sep } from 'node:path'
import { createEnvironment } from '../environment.ts'
import { OutputTail } from '../output.ts'
import { drainPipes } from '../pipes.ts'
import { directSpawner } from '../spawn/spawned-process.ts'
import type { Level, Wrapping } from './levels.ts'
import { temporaryDirectory } from '../temporary.ts'

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
export const LINUX_ONLY = 'this is Linux only'

/** What a trial is wrapped with, unless it is what is tried out. */
export const NOTHING = {
  network: 'host',
  mounts: [],
  limits: {},
  cgroupEntries: [],
  tools: {},
} as const satisfies Wrapping

/** Runs a command as a worker is run, to its end. */
export async function run(
  [command = '', ...args]: readonly string[],
  signals: Level['signals'] = 'group',
  filter?: string,
  home?: string,
) {
  try {
    const env = environmentOf(home)
    const child = await directSpawner.spawn(
      { command, args, cwd: undefined, env, signals, session: 'left', filter },
      undefined,
    )
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

/** By which what a trial leaves, when this process is killed within it, is found as what a worker leaves is. */
function environmentOf(home: string | undefined): Record<string, string> {
  return createEnvironment(home === undefined ? {} : { HOME: home })
}

/**
 * Looks at a wrapped command while that runs. It is asked to end, and killed if it does not.
 */
export async function withRunning(
  wrapper: readonly string[],
  filter: string | undefined,
  home: string,
  look: (pid: number) => void,
): Promise<void> {
  const [command, ...args] = [...wrapper, '/bin/sh', '-c', 'echo up; exec sleep 60']
  const env = environmentOf(home)
  const child = await directSpawner.spawn(
    { command, args, cwd: undefined, env, signals: 'wrapper', session: 'left', filter },
    undefined,
  )
  const limit = setTimeout(() => child.signal('group', 'SIGKILL'), PROBE_TIMEOUT)
  let seen!: () => void
  const isUp = new Promise<void>((resolve) => {
    seen = resolve
  })
  const errors = new OutputTail()
  const finishReading = drainPipes(child, { stdout: new OutputTail({ onLine: () => seen() }), stderr: errors })
  try {
    await Promise.race([isUp, child.exit.then(() => Promise.reject(new Error(errors.lines().at(-1) ?? 'it ended')))])
    look(child.pid)
  } finally {
    child.signal('leader', 'SIGTERM')
    await child.exit
    clearTimeout(limit)
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

/** What to do when a trial failed for want of a directory among the temporary files, where those go that no supervisor has made. */
export function explainPlace(error: unknown): string | undefined {
  const { path } = error as NodeJS.ErrnoException
  if (path?.startsWith(temporaryDirectory() + sep) !== true) return undefined
  return 'let TMPDIR name a directory that can be written to and has room'
}
