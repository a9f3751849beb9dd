import { setTimeout as delay } from 'node:timers/promises'

const FIRST_POLL = 1
const LONGEST_POLL = 50
/** Milliseconds. A process that SIGKILL does not end within this time hangs in the kernel, and waiting longer would not help. */
export const GIVE_UP_AFTER = 10_000

/**
 * Kills until there is nothing left to kill, more and more seldom, or until it is time to give up.
 *
 * @param kill tells whether nothing is left. It is told the pause that comes after it, in milliseconds.
 * @param giveUpAfter milliseconds.
 * @returns whether nothing is left.
 */
export async function killAll(
  kill: (pause: number) => Promise<boolean>,
  giveUpAfter: number = GIVE_UP_AFTER,
): Promise<boolean> {
  const deadline = performance.now() + giveUpAfter
  for (let pause = FIRST_POLL; !(await kill(pause)); pause = Math.min(pause * 2, LONGEST_POLL)) {
    if (performance.now() > deadline) return false
    await delay(pause)
  }
  return true
}

/** To one that may be gone in the meantime. */
export function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Gone in the meantime.
  }
}
