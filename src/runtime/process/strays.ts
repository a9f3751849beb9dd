import { readFile } from 'node:fs/promises'
import { killAll, killQuietly } from './killed.ts'
import { listPids } from './pids.ts'
import { shared } from './shared.ts'

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

/** The environments of all processes. Many workers may end at once. */
const environments = shared(async (): Promise<ReadonlyMap<number, string>> => {
  const pids = ((await listPids()) ?? []).filter((pid) => pid > 1 && pid !== process.pid)
  // Empty for a zombie, and for a process of another user.
  const read = async (pid: number) => [pid, await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')] as const
  return new Map(await Promise.all(pids.map(read)))
})
