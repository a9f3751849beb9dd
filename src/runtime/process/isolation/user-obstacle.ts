import { constants } from 'node:fs'
import { access, chown } from 'node:fs/promises'
import { join } from 'node:path'
import { Claims } from '../claims.ts'
import { makeDirectory } from '../make-directory.ts'
import { claimPlace, type Grounds } from '../place.ts'
import { dropUser, type Tools } from './levels.ts'
import { run, type ProbeResult } from './trial.ts'
import { FIRST_UID, LAST_UID } from './uids.ts'

const IDS =
  `map the users and groups ${FIRST_UID} to ${LAST_UID} into the user namespace of this process (for a rootless container, give its ` +
  'user 100,000 ids in /etc/subuid and in /etc/subgid), or run it as an ordinary user'
const RIGHTS =
  'give this process CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_SETUID and CAP_SETGID (in a container, do not drop them) and a state ' +
  'directory on a file system with owners, or run it as an ordinary user'

/** By what the system says. Anything else has nothing to do with users. */
const FIXES = { EINVAL: IDS, EPERM: RIGHTS, EACCES: RIGHTS } as const

/**
 * What keeps root from giving workers users of their own, if anything does. Both ends of the range are tried out: a user namespace
 * may have a part of it.
 */
export async function findUserObstacle(
  grounds: Grounds,
  tools: Tools,
): Promise<Pick<ProbeResult, 'detail' | 'fix'> | undefined> {
  const claims = new Claims()
  try {
    const request = { tenant: 'probe', cgroups: [], user: 'same', run: 'none' } as const
    const { directory } = await claimPlace(grounds, request, claims)
    const given = join(directory.home, 'given')
    await makeDirectory(given, 0o700)
    for (const uid of [FIRST_UID, LAST_UID]) {
      const refusal = await give(given, uid)
      if (refusal !== undefined) {
        return { detail: `user ${uid} cannot be given a directory (${refusal})`, fix: FIXES[refusal] }
      }
      const { exitCode, output } = await run([...dropUser({ uid, tools }), 'true'], 'group', undefined, directory.home)
      if (exitCode !== 0) return { detail: `no process can become user ${uid}: ${output}`, fix: RIGHTS }
    }
    return undefined
  } finally {
    await claims.release()
  }
}

/** Gives a directory away, and gets at it still, as is needed to fill it and to remove it. @returns why not. */
async function give(directory: string, uid: number): Promise<keyof typeof FIXES | undefined> {
  try {
    await chown(directory, uid, uid)
    await access(directory, constants.R_OK | constants.W_OK | constants.X_OK)
    return undefined
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    if (code in FIXES) return code as keyof typeof FIXES
    throw error
  }
}
