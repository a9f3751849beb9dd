import type { Outcome } from './load.ts'
import { cpuTime, peakMemory, resetPeakMemory } from './procfs.ts'

/** One round of one subject. Times in microseconds, memory in bytes. */
export interface Sample extends Outcome {
  /** Processor time of the process under test, per operation. */
  readonly cpu: number
  /** Its largest resident set. */
  readonly memory: number
}

/** What was measured, in order of the rounds, by the name of the subject. */
export type Samples<T> = ReadonlyMap<string, readonly T[]>

/** Measures every subject once a round: A B C A B C …, so that what disturbs the machine disturbs all of them. */
export async function interleave<S extends { readonly name: string }, T>(
  subjects: readonly S[],
  rounds: number,
  measure: (subject: S, round: number) => Promise<T>,
): Promise<Samples<T>> {
  const samples = new Map(subjects.map(({ name }): [string, T[]] => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (const subject of subjects) samples.get(subject.name)?.push(await measure(subject, round))
  }
  return samples
}

/** Runs a load and reads what it cost the process `pid`. */
export async function costOf(pid: number, load: () => Promise<Outcome>): Promise<Sample> {
  resetPeakMemory(pid)
  const before = cpuTime(pid)
  const outcome = await load()
  return { ...outcome, cpu: (cpuTime(pid) - before) / outcome.operations, memory: peakMemory(pid) }
}
