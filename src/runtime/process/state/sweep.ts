import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { WorkerCgroup } from '../cgroup/worker-cgroup.ts'
import { processClock } from '../_proc.ts'
import { emptyGroup, signalGroup } from '../group.ts'
import { GIVE_UP_AFTER } from '../killed.ts'
import { removeTree } from '../removal.ts'
import { endSession } from '../session.ts'
import { endStrays } from '../strays.ts'
import { isRunning, readBootId, type ProcessIdentity } from './identity.ts'
import { listRecords } from './ledger.ts'
import { readRecord, RecordError, type LedgerRecord } from './record.ts'

/** Of the removal of one tree, in milliseconds: a start waits for it. */
const REMOVAL_LIMIT = 30_000

/** The parts of a state directory in which a sweep is. */
export interface Swept {
  readonly ledger: string
  /** Holds the directories of workers. */
  readonly workers: string
}

/**
 * Ends and removes everything that the ledger has of the generations that `isMeant` says: processes, cgroups, sockets,
 * directories. Never rejects: what is left is told as a warning, and what is written of it is kept for a later sweep.
 *
 * @param giveUpAfter milliseconds that processes which have been killed get to end.
 * @returns whether nothing is left.
 */
export async function sweep(
  { ledger, workers }: Swept,
  isMeant: (generation: number) => boolean,
  giveUpAfter: number = GIVE_UP_AFTER,
): Promise<boolean> {
  let paths: readonly string[] = []
  const isListed = await withWarning(async () => {
    paths = await listRecords(ledger, isMeant)
  })
  const swept = await Promise.all(
    paths.map((path) =>
      withWarning(async () => {
        const record = await readRecord(path, workers)
        if (record !== undefined) {
          const survivors = await endProcesses(knownAgain(record), giveUpAfter)
          if (survivors.length > 0) {
            throw new Error(`Processes ${survivors.join(', ')} of worker ${record.name} could not be killed`)
          }
          await removeTree(join(workers, record.name), REMOVAL_LIMIT)
        }
        await rm(path, { force: true })
      }),
    ),
  )
  return isListed && swept.every(Boolean)
}

/** Removes a directory that has been swept. Never rejects, and warns, as {@link sweep} does. */
export function removeSwept(path: string): Promise<boolean> {
  return withWarning(() => removeTree(path, REMOVAL_LIMIT))
}

/** Never rejects. @returns whether `action` did not fail. */
export async function withWarning(action: () => Promise<void>): Promise<boolean> {
  try {
    await action()
    return true
  } catch (error) {
    const told =
      error instanceof RecordError
        ? `Left alone: ${error.message}`
        : `Left behind: ${String(error)}; the next start tries again`
    process.emitWarning(told, 'CorralWarning')
    return false
  }
}

/** Without a process of which nothing but the id is known: as where start times cannot be told, it may be another's by now. */
function knownAgain({ process: leader, ...record }: LedgerRecord): LedgerRecord {
  return leader?.startTime === null || leader?.bootId === null ? record : { ...record, process: leader }
}

/**
 * Ends what is left of one worker, and removes its cgroup. A process is taken for the worker's because it is in its cgroup,
 * because id and start time are those written down, or because its environment names the worker's directory: never because
 * of an id alone, which may be somebody else's by now.
 *
 * @returns ids of the processes that would not die.
 */
export async function endProcesses(
  { cgroups, bootId, process: leader, directory }: LedgerRecord,
  giveUpAfter: number = GIVE_UP_AFTER,
): Promise<readonly number[]> {
  // The machine was started anew since: nothing that ran then can run now, and its cgroups are gone.
  if (bootId !== (await readBootId())) return []
  // At once: who is stuck may be in all of them.
  const survivors = await Promise.all([
    cgroups.length > 0 ? new WorkerCgroup(cgroups).empty(giveUpAfter) : [],
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
