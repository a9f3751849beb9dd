import { rmSync } from 'node:fs'
import { chmod, chown } from 'node:fs/promises'
import { join } from 'node:path'
import type { Claim } from './claims.ts'
import { makeDirectory } from './make-directory.ts'
import { removeTree } from './removal.ts'

/** The directories of one start of one worker. No other worker, and no other user, can read them. */
export interface WorkerDirectory extends Claim {
  /** Holds the others. */
  readonly root: string
  /** The worker's own: `{{dir}}`, its `HOME`, with a directory for temporary files in it. */
  readonly home: string
  /** Where its unix socket goes, if it has one that is on disk. */
  readonly run: string | undefined
}

const REMOVAL = { recursive: true, force: true } as const

/**
 * Makes them, in `root`, which must not exist: nothing of an earlier start can be in them.
 *
 * @param kind whether it has one for a socket.
 * @param uid whom they belong to; absent: this process's user.
 */
export async function createDirectory(root: string, kind: 'own' | 'none', uid?: number): Promise<WorkerDirectory> {
  const home = join(root, 'home')
  const run = kind === 'own' ? join(root, 'run') : undefined
  await makeDirectory(root, 0o700)
  try {
    for (const path of [home, temporaryOf(home), ...(run === undefined ? [] : [run])]) {
      await makeDirectory(path, 0o700)
      if (uid !== undefined) await chown(path, uid, uid)
    }
    if (uid !== undefined) await chmod(root, 0o711)
  } catch (error) {
    await removeTree(root).catch(() => {}) // What could not be made says more.
    throw error
  }
  return { root, home, run, release: () => removeTree(root), releaseNow: () => rmSync(root, REMOVAL) }
}

/** Where temporary files go. */
export function temporaryOf(home: string): string {
  return join(home, 'tmp')
}
