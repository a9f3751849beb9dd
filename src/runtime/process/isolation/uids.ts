import { randomInt } from 'node:crypto'
import type { Claim } from '../claims.ts'

/**
 * Ids for the users of workers: no distribution gives these to people, services or containers (systemd's UIDS-GIDS, and
 * the subordinate ids of shadow start at 100,000).
 */
export const FIRST_UID = 66_000
export const LAST_UID = 99_999

const taken = new Set<number>()

/** A user id that no other worker of this process has. At random, as other supervisors take theirs from here too. */
export function takeUid(): Claim & { readonly uid: number } {
  for (;;) {
    const uid = randomInt(FIRST_UID, LAST_UID + 1)
    if (taken.has(uid)) continue
    taken.add(uid)
    const releaseNow = () => void taken.delete(uid)
    return { uid, release: async () => releaseNow(), releaseNow }
  }
}
