import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Journal } from './_journal.ts'
import { until } from './_pending.ts'
import { Random } from './_random.ts'
import { Scene } from './_scene.ts'
import type { SceneOptions } from './_scene.ts'
import { holdings, lastingHandles, markedProcesses, signal } from './_system.ts'

export interface ChaosOptions {
  readonly seed: number
  readonly journal: Journal
  /** Time under load before each rest, in milliseconds. */
  readonly load: number
  /** Whether to go on after so many rests. */
  readonly goesOn: (rests: number) => boolean
  /** Ends it early, but properly. */
  readonly signal?: AbortSignal
  /** Called at every rest. */
  readonly onRest?: (state: ChaosState) => Promise<void> | void
}

export interface ChaosState {
  /** Processes of the pools. */
  readonly processes: number
  /** Daemons that workers left behind, which the harness has ended. */
  readonly daemons: number
}

/**
 * Two gateways side by side, on pools that are as different as can be. Under load and faults, then at rest, again and again;
 * closed under load at the end. What must not happen is in the journal then.
 */
export async function runChaos(options: ChaosOptions): Promise<ChaosState> {
  const { seed, journal, load, goesOn, onRest, signal: aborted } = options
  const random = new Random(seed)
  const run = `${process.pid}-${seed}`
  const before = holdings()
  const restore = useDirectory(journal)
  const onWarning = (warning: Error) => {
    if (warnings.has(warning.name)) journal.violate('uncaught errors', String(warning))
  }
  process.on('warning', onWarning)
  const isAborted = () => aborted?.aborted === true
  let daemons = 0
  const scenes: Scene[] = []
  try {
    for (const scene of scenesOf(run)) scenes.push(await Scene.open(scene, random.stream(scene.name), journal))
    const endDaemons = () => {
      for (const { pid } of scenesOf(run).flatMap(({ markValue }) =>
        markedProcesses(markValue).filter((it) => it.isDaemon),
      )) {
        if (scenesOf(run).some(({ markValue }) => signal(pid, 'SIGKILL', markValue))) daemons++
      }
    }
    for (let rests = 0; goesOn(rests) && !isAborted(); rests++) {
      for (const scene of scenes) scene.load()
      await delay(load, undefined, { signal: aborted }).catch(() => {})
      await Promise.all(scenes.map((scene) => scene.calm()))
      endDaemons()
      await onRest?.({ daemons, processes: sum(scenes) })
    }
    for (const scene of scenes) scene.load()
    await delay(CLOSING_LOAD)
    await Promise.all(scenes.map((scene) => scene.close()))
    endDaemons()
    await expectNothingHeld(before, journal)
    return { daemons, processes: sum(scenes) }
  } finally {
    process.off('warning', onWarning)
    // Only what a failure of the harness itself has left: everything else was looked for.
    for (const { markValue } of scenesOf(run))
      for (const { pid } of markedProcesses(markValue)) signal(pid, 'SIGKILL', markValue)
    restore()
  }
}

const CLOSING_LOAD = 1_500
const warnings = new Set(['CorralWarning', 'MaxListenersExceededWarning'])

function scenesOf(run: string): SceneOptions[] {
  return [
    {
      name: 'fresh',
      address: 'port',
      users: 22,
      faultEvery: 500,
      markValue: `${run}-fresh`,
      pool: { size: { min: 2, max: 24, warm: 2 }, session: { idleTtl: 1_500, reuse: false } },
    },
    {
      name: 'reused',
      address: 'socket',
      users: 18,
      faultEvery: 500,
      markValue: `${run}-reused`,
      pool: {
        size: { min: 3, max: 18, warm: 1 },
        session: { idleTtl: 1_000, maxAge: 6_000, reuse: { reset: '/reset', timeout: 1_000 } },
      },
    },
  ]
}

/** Makes a directory for the sockets of workers, and sees at the end that it is empty. */
function useDirectory(journal: Journal): () => void {
  const previous = process.env.TMPDIR
  const directory = mkdtempSync(join(tmpdir(), 'chaos-'))
  process.env.TMPDIR = directory
  return () => {
    if (previous === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = previous
    const left = readdirSync(directory)
    if (left.length > 0) journal.violate('directories left', left.join(', '))
    rmSync(directory, { recursive: true, force: true })
  }
}

async function expectNothingHeld(before: ReturnType<typeof holdings>, journal: Journal): Promise<void> {
  let text = ''
  const isClear = await until(() => {
    const now = holdings()
    const sockets = [...now.sockets].filter((socket) => !before.sockets.has(socket))
    const handles = lastingHandles.map((kind) => [kind, (now.handles.get(kind) ?? 0) - (before.handles.get(kind) ?? 0)])
    const more = handles.filter(([, count]) => Number(count) > 0)
    text = `${sockets.length} sockets, ${more.map(([kind, count]) => `${count} ${kind}`).join(', ')}`
    return sockets.length === 0 && more.length === 0
  }, 10_000)
  if (!isClear) journal.violate('sockets left', text)
}

function sum(scenes: readonly Scene[]): number {
  return scenes.reduce((total, scene) => total + scene.processes, 0)
}
