import { listProcesses, readProcessNow, type ProcessEntry } from './_proc.ts'
import { killAll, killQuietly } from './killed.ts'

/**
 * Kills what is left in the session of a process that has ended: what has left its group, as every job of a shell with job
 * control does, and not its session. Linux only; elsewhere nothing is found.
 *
 * When a process is reaped, the number of its session stays taken as long as somebody is in that, and may be given out again
 * afterwards. Whoever is in it and started before that is of the old session. Where there is such a one, so are all in it, and
 * so are those that are found in it from one look to the next.
 *
 * @param leader the process, whose id is that of the session.
 * @param lastSeen when it had not been reaped yet, or has just been, by {@link processClock}.
 * @param giveUpAfter milliseconds.
 * @returns ids of the processes that would not die.
 */
export async function endSession(leader: number, lastSeen: number, giveUpAfter?: number): Promise<readonly number[]> {
  let members: readonly ProcessEntry[] = []
  let isOurs = false
  await killAll(async () => {
    members = (await listProcesses()).filter(({ session, isZombie }) => session === leader && !isZombie)
    isOurs ||= members.some(({ startTime }) => startTime <= lastSeen)
    if (!isOurs) members = []
    for (const member of members) kill(member)
    return members.length === 0
  }, giveUpAfter)
  return members.map(({ pid }) => pid)
}

/** Unless its id is another's by now. */
function kill({ pid, startTime }: ProcessEntry): void {
  if (readProcessNow(pid)?.startTime === startTime) killQuietly(pid)
}
