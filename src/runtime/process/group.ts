import { listProcesses } from './_proc.ts'
import { killAll } from './killed.ts'

/** Killed processes are usually reaped sooner; from this poll on it is worth finding out whether only zombies are left. */
const ZOMBIE_POLL = 8

/**
 * Sends `signal` to the process group that `leader` leads; `0` only asks. Never throws.
 *
 * @returns whether there was anybody to get it.
 */
export function signalGroup(leader: number, signal: NodeJS.Signals | 0): boolean {
  return send(leader, process.platform === 'win32' ? 'leader' : 'group', signal)
}

/** Sends `signal` to the leader alone. Only while it has not been reaped: its id may be somebody else's after that. */
export function signalLeader(leader: number, signal: NodeJS.Signals): boolean {
  return send(leader, 'leader', signal)
}

/**
 * Kills what is left of a group whose leader has exited, and resolves when nothing is: the id of a group is not given to
 * another process while it has a member, so until then it is safe to signal. Zombies do not count; who reaps them is up
 * to the init process, which in a container may do so never.
 *
 * @param giveUpAfter milliseconds.
 * @returns ids of the processes that would not die.
 */
export async function emptyGroup(leader: number, giveUpAfter?: number): Promise<readonly number[]> {
  let members: readonly number[] = []
  await killAll(async (pause) => {
    members = signalGroup(leader, 0) ? [leader] : []
    if (members.length > 0 && pause >= ZOMBIE_POLL) members = (await livingMembers(leader)) ?? members
    if (members.length > 0) signalGroup(leader, 'SIGKILL')
    return members.length === 0
  }, giveUpAfter)
  return members
}

/** @returns `undefined` where it cannot be told. */
async function livingMembers(leader: number): Promise<number[] | undefined> {
  const processes = await listProcesses()
  if (processes.length === 0) return undefined
  return processes.filter(({ group, isZombie }) => group === leader && !isZombie).map(({ pid }) => pid)
}

function send(leader: number, target: 'group' | 'leader', signal: NodeJS.Signals | 0): boolean {
  // To the kernel 0 is our own group, -1 everybody, and 1 the process that all others hang on.
  if (!Number.isSafeInteger(leader) || leader <= 1) return false
  try {
    return process.kill(target === 'group' ? -leader : leader, signal)
  } catch (error) {
    // EPERM: there is somebody, and we may not. On macOS it also stands for a group of zombies.
    return (error as NodeJS.ErrnoException).code === 'EPERM' && process.platform !== 'darwin'
  }
}
