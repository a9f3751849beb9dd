import type { WearCause } from '../machines/events.ts'
import { hash } from '../machines/hash.ts'
import type { WorkerBackend, WorkerInstance } from './backend.ts'
import { sleep, type Clock } from './clock.ts'

/** When a process is worn; `false`: never for that. */
export interface WearMarks {
  /** Age, in milliseconds. */
  readonly age: number | false
  /** Memory, in bytes. */
  readonly memory: number | false
}

export interface Wearing {
  readonly workerId: string
  /** When the process was launched, by the clock. */
  readonly startedAt: number
  readonly launched: Promise<WorkerInstance>
}

export interface WearRules {
  readonly recycle: WearMarks
  readonly backend: Pick<WorkerBackend, 'memoryOf'>
  readonly clock: Clock
}

/** Share of the time by which processes differ, so that those that were started together are not replaced together. */
const AGE_SPREAD = 0.2
const MEASURE_SPREAD = 0.5
const MEASURE_INTERVAL = 10_000

/**
 * Resolves when the process is worn, with the cause; stays pending when it never is. Rejects when `signal` aborts.
 *
 * @param seed a name of the process, from which its own age and rhythm come: no chance, so that a run can be repeated.
 */
export async function untilWorn(
  wearing: Wearing,
  seed: string,
  rules: WearRules,
  signal: AbortSignal,
): Promise<WearCause> {
  const { recycle, clock } = rules
  const part = hash(seed)
  const causes: Promise<WearCause>[] = []
  if (recycle.age !== false) {
    const age = recycle.age * (1 - AGE_SPREAD * part)
    causes.push(sleep(clock, Math.max(0, wearing.startedAt + age - clock.now()), signal).then(() => 'age'))
  }
  if (recycle.memory !== false) {
    const interval = MEASURE_INTERVAL * (1 - MEASURE_SPREAD * part)
    causes.push(untilAbove(recycle.memory, interval, wearing, rules, signal).then(() => 'memory'))
  }
  return Promise.race(causes)
}

/** Measures until it is more; what cannot be measured once is measured again. */
async function untilAbove(
  mark: number,
  interval: number,
  { workerId, launched }: Wearing,
  { backend, clock }: WearRules,
  signal: AbortSignal,
): Promise<void> {
  const instance = await launched
  let failures = 0
  for (;;) {
    await sleep(clock, interval, signal)
    try {
      const bytes = (await backend.memoryOf?.(instance)) ?? 0
      if (bytes > mark) return
    } catch (error) {
      signal.throwIfAborted()
      // Once may be because the process is just ending.
      if (++failures === 2) warn(workerId, error)
    }
  }
}

function warn(workerId: string, error: unknown): void {
  const why = error instanceof Error ? error.message : String(error)
  process.emitWarning(`The memory of worker ${workerId} cannot be measured (recycle.memory): ${why}`, 'CorralWarning')
}
