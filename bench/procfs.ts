import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'

/** The variable by which every process of a run is found again, those of its workers included. */
export const mark = 'CORRAL_BENCH'

/** Processor time of a process since its start, all threads, in microseconds. */
export function cpuTime(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  // What follows the program's name, which stands in parentheses and may hold some itself. proc(5): fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return ((Number(fields[11]) + Number(fields[12])) / ticksPerSecond) * 1e6
}

const ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))

/** Lets {@link peakMemory} begin anew. */
export function resetPeakMemory(pid: number): void {
  // proc(5): 5 resets the peak resident set size.
  writeFileSync(`/proc/${pid}/clear_refs`, '5')
}

/** Largest resident set of a process since {@link resetPeakMemory}, in bytes. */
export function peakMemory(pid: number): number {
  return statusOf(pid, 'VmHWM')
}

/** Resident set of a process now, in bytes. */
export function residentMemory(pid: number): number {
  return statusOf(pid, 'VmRSS')
}

/** Processes with the mark of a run, other than this one and zombies. */
export function markedProcesses(value: string): { pid: number; command: string }[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) return []
    if (!read(`/proc/${name}/environ`).split('\0').includes(`${mark}=${value}`)) return []
    return [{ pid: Number(name), command: read(`/proc/${name}/cmdline`).replaceAll('\0', ' ').trimEnd() }]
  })
}

function statusOf(pid: number, field: string): number {
  const kilobytes = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]
  return Number(kilobytes) * 1024
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return '' // Gone in the meantime, or another user's.
  }
}
