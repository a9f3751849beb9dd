import { readdir, readFile, rm } from 'node:fs/promises'
import { basename } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { WorkerCgroup } from '../cgroup/worker-cgroup.ts'
import { emptyGroup, signalGroup } from '../group.ts'
import { removeTree } from '../removal.ts'
import { isRunning, readBootId } from './identity.ts'
import { readLedger, type LedgerRecord } from './ledger.ts'

const FIRST_POLL = 1
const LONGEST_POLL = 50
const GIVE_UP_AFTER = 10_000
/** Of the removal of one tree, in milliseconds: a start waits for it. */
const REMOVAL_LIMIT = 30_000

/**
 * Ends and removes everything that the ledger has of the generations that `isMeant` says: processes, cgroups, sockets,
 * directories. Never rejects: what is left is told as a warning, and what is written of it is kept for a later sweep.
 *
 * @returns whether nothing is left.
 */
export async function sweep(ledger: string, isMeant: (generation: number) => boolean): Promise<boolean> {
  const entries = await readLedger(ledger, isMeant)
  const swept = await Promise.all(
    entries.map(({ path, record }) =>
      withWarning(async () => {
        if (record !== undefined) {
          const survivors = await endProcesses(record)
          if (survivors.length > 0) {
            throw new Error(`Processes ${survivors.join(', ')} of worker ${record.name} could not be killed`)
          }
          await removeTree(record.directory, REMOVAL_LIMIT)
        }
        await rm(path, { force: true })
      }),
    ),
  )
  return swept.every(Boolean)
}

/** Removes a directory that has been swept. Never rejects, and warns, as {@link sweep} does. */
export function removeSwept(path: string): Promise<boolean> {
  return withWarning(() => removeTree(path, REMOVAL_LIMIT))
}

/** @returns whether `action` did not fail. */
async function withWarning(action: () => Promise<void>): Promise<boolean> {
  try {
    await action()
    return true
  } catch (error) {
    process.emitWarning(`Left behind: ${String(error)}; the next start tries again`, 'CorralWarning')
    return false
  }
}

/**
 * Ends what is left of one worker, and removes its cgroup. A process is taken for the worker's because it is in its cgroup,
 * because id and start time are those written down, or because its environment names the worker's directory: never because
 * of an id alone, which may be somebody else's by now.
 *
 * @returns ids of the processes that would not die.
 */
export async function endProcesses({ cgroups, bootId, process: leader, directory, name }: LedgerRecord) {
  // The machine was started anew since: nothing that ran then can run now, and its cgroups are gone.
  if (bootId !== (await readBootId())) return []
  const survivors: number[] = []
  const own = cgroups.filter(({ path }) => basename(path) === cgroupName(name))
  if (own.length > 0) survivors.push(...(await new WorkerCgroup(own).empty()))
  if (leader !== undefined && (await isRunning(leader))) {
    signalGroup(leader.pid, 'SIGKILL')
    survivors.push(...(await emptyGroup(leader.pid)))
  }
  survivors.push(...(await endByEnvironment(directory)))
  return survivors
}

/** What the cgroup of a worker's start is called. */
export function cgroupName(name: string): string {
  return `corral-${name}`
}

/** Finds also what has left its process group, unless it has emptied its environment. */
async function endByEnvironment(directory: string): Promise<readonly number[]> {
  const deadline = performance.now() + GIVE_UP_AFTER
  for (let wait = FIRST_POLL; ; wait = Math.min(wait * 2, LONGEST_POLL)) {
    const pids = await findByEnvironment(directory)
    if (pids.length === 0 || performance.now() > deadline) return pids
    for (const pid of pids) killQuietly(pid)
    await delay(wait)
  }
}

async function findByEnvironment(directory: string): Promise<number[]> {
  const names = await readdir('/proc').catch(() => [])
  const pids = names.map(Number).filter((pid) => pid > 1 && pid !== process.pid)
  const found = await Promise.all(
    pids.map(async (pid) => {
      // Empty for a zombie, and for a process of another user.
      const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')
      return environment.includes(`=${directory}/`) ? [pid] : []
    }),
  )
  return found.flat()
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Gone in the meantime.
  }
}
