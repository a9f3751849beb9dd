import { readFile } from 'node:fs/promises'
import { killAll, killQuietly } from './killed.ts'
import { listPids } from './pids.ts'

/**
 * Kills every process whose environment names something in a worker's directory, as `HOME` does that of a worker: what has
 * left its process group, and has not emptied its environment. The leader is one of them, unless it is gone.
 *
 * @param giveUpAfter milliseconds.
 * @returns ids of the processes that would not die.
 */
export async function endStrays(directory: string, giveUpAfter?: number): Promise<readonly number[]> {
  let pids: readonly number[] = []
  await killAll(async () => {
    pids = [...(await environments())].flatMap(([pid, text]) => (names(text, directory) ? [pid] : []))
    for (const pid of pids) killQuietly(pid)
    return pids.length === 0
  }, giveUpAfter)
  return pids
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
