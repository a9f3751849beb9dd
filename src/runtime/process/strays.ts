import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { listPids } from './pids.ts'

const FIRST_POLL = 1
const LONGEST_POLL = 50
/** A process that SIGKILL does not end within this time hangs in the kernel, and waiting longer would not help. */
const GIVE_UP_AFTER = 10_000

/**
 * Kills every process whose environment names something in a worker's directory, as `HOME` does that of a worker: what has
 * left its process group, and has not emptied its environment. The leader must be gone: it would be one of them.
 *
 * @returns ids of the processes that would not die.
 */
export async function endStrays(directory: string): Promise<readonly number[]> {
  const deadline = performance.now() + GIVE_UP_AFTER
  for (let wait = FIRST_POLL; ; wait = Math.min(wait * 2, LONGEST_POLL)) {
    const pids = [...(await environments())].flatMap(([pid, text]) => (names(text, directory) ? [pid] : []))
    if (pids.length === 0 || performance.now() > deadline) return pids
    for (const pid of pids) killQuietly(pid)
    await delay(wait)
  }
}

/** Not in `PWD`: what somebody starts who is looking at that directory has this one, too. */
function names(environment: string, directory: string): boolean {
  const named = `=${directory}/`
  if (!environment.includes(named)) return false
  return environment.split('\0').some((variable) => variable.includes(named) && !/^(?:OLD)?PWD=/.test(variable))
}

type Environments = ReadonlyMap<number, string>

let running: Promise<void> = Promise.resolve()
let next: Promise<Environments> | undefined

/**
 * The environments of all processes, read after this was called. Many workers may end at once: those who ask while they are
 * being read share the next reading.
 */
function environments(): Promise<Environments> {
  next ??= running.then(() => {
    next = undefined
    const reading = readEnvironments()
    running = reading.then(() => {}) // What was read is for those who asked.
    return reading
  })
  return next
}

async function readEnvironments(): Promise<Environments> {
  const pids = ((await listPids()) ?? []).filter((pid) => pid > 1 && pid !== process.pid)
  // Empty for a zombie, and for a process of another user.
  const read = async (pid: number) => [pid, await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')] as const
  return new Map(await Promise.all(pids.map(read)))
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Gone in the meantime.
  }
}
