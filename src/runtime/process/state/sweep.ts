import { rm } from 'node:fs/promises'
import { basename } from 'node:path'
import { WorkerCgroup } from '../cgroup/worker-cgroup.ts'
import { processClock } from '../_proc.ts'
import { emptyGroup, signalGroup } from '../group.ts'
import { GIVE_UP_AFTER } from '../killed.ts'
import { removeTree } from '../removal.ts'
import { endSession } from '../session.ts'
import { endStrays } from '../strays.ts'
import { isRunning, readBootId, type ProcessIdentity } from './identity.ts'
import { readLedger, type LedgerRecord } from './ledger.ts'

/** Of the removal of one tree, in milliseconds: a start waits for it. */
const REMOVAL_LIMIT = 30_000

/**
 * Ends and removes everything that the ledger has of the generations that `isMeant` says: processes, cgroups, sockets,
 * directories. Never rejects: what is left is told as a warning, and what is written of it is kept for a later sweep.
 *
 * @param giveUpAfter milliseconds that processes which have been killed get to end.
 * @returns whether nothing is left.
 */
export async function sweep(
  ledger: string,
  isMeant: (generation: number) => boolean,
  giveUpAfter: number = GIVE_UP_AFTER,
): Promise<boolean> {
  const entries = await readLedger(ledger, isMeant)
  const swept = await Promise.all(
    entries.map(({ path, record }) =>
      withWarning(async () => {
        if (record !== undefined) {
          const survivors = await endProcesses(record, giveUpAfter)
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
export async function endProcesses(
  { cgroups, bootId, process: leader, directory, name }: LedgerRecord,
  giveUpAfter: number = GIVE_UP_AFTER,
): Promise<readonly number[]> {
  // The machine was started anew since: nothing that ran then can run now, and its cgroups are gone.
  if (bootId !== (await readBootId())) return []
  const own = cgroups.filter(({ path }) => basename(path) === cgroupName(name))
  // At once: who is stuck may be in all of them.
  const survivors = await Promise.all([
    own.length > 0 ? new WorkerCgroup(own).empty(giveUpAfter) : [],
    endLeader(leader, giveUpAfter),
    endStrays(directory, giveUpAfter),
  ])
  return [...new Set(survivors.flat())]
}

/** Ends its group and its session, while the ids of both are its own: once it is gone, nothing says whose they are. */
async function endLeader(leader: ProcessIdentity | undefined, giveUpAfter: number): Promise<readonly number[]> {
  const now = processClock()
  if (leader === undefined || !(await isRunning(leader))) return []
  signalGroup(leader.pid, 'SIGKILL')
  const survivors = [emptyGroup(leader.pid, giveUpAfter), endSession(leader.pid, now, giveUpAfter)]
  return (await Promise.all(survivors)).flat()
}

/** What the cgroup of a worker's start is called. */
export function cgroupName(name: string): string {
  return `corral-${name}`
}
