import type { HostPressure } from '../machines/events.ts'
import { shareOf } from './host/memory.ts'
import type { HostUsage } from './host/observer.ts'

/** Shares of the host, 0 to 1, from which on it counts as pressed; `false`: never for that. */
export interface PressureMarks {
  readonly memory: number | false
  readonly cpu: number | false
  /** The part of its mark that each has to fall below to be relieved. */
  readonly resume: number
}

export function toPressure({ cpu, memory }: HostUsage): HostPressure {
  return { cpu, memory: shareOf(memory) }
}

/** What becomes of a pool that is `relieved` or `pressed` now. Between a mark and where it resumes, it stays what it is. */
export function weigh(now: 'relieved' | 'pressed', use: HostPressure, marks: PressureMarks): 'relieved' | 'pressed' {
  const part = now === 'pressed' ? marks.resume : 1
  const isAbove = (share: number | null, mark: number | false) =>
    mark !== false && share !== null && share >= mark * part
  return isAbove(use.cpu, marks.cpu) || isAbove(use.memory, marks.memory) ? 'pressed' : 'relieved'
}
