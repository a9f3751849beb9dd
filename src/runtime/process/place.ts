import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { DirectoryPlan } from './cgroup/limits.ts'
import { createCgroup, type WorkerCgroup } from './cgroup/worker-cgroup.ts'
import type { Claims } from './claims.ts'
import { createDirectory, type WorkerDirectory } from './directory.ts'
import { takeUid } from './isolation/uids.ts'
import type { Ledger, LedgerEntry } from './state/ledger.ts'
import { cgroupName } from './state/record.ts'
import { temporaryDirectory } from './temporary.ts'

/** Where places are. */
export interface Grounds {
  /** Holds everything of theirs and of the supervisor's: no business of theirs. */
  readonly root?: string
  /** Directory that theirs go to; absent: that of temporary files. */
  readonly workers?: string
  /** Where what they hold is written down; absent: nowhere. */
  readonly ledger?: Ledger
  /** Puts back what of the grounds has been removed. */
  readonly mend?: () => Promise<void>
}

export interface PlaceRequest {
  /** For whom: the beginning of its name. */
  readonly tenant: string
  readonly cgroups: readonly DirectoryPlan[]
  /** Whose it is: a user of its own, or this process's. */
  readonly user: 'own' | 'same'
  /** Whether there is a directory for its unix socket on disk. */
  readonly run: 'own' | 'none'
}

/** Where one start of one worker lives. */
export interface Place {
  readonly directory: WorkerDirectory
  /** User and group id of its own. */
  readonly uid: number | undefined
  readonly cgroup: WorkerCgroup | undefined
  readonly entry: LedgerEntry | undefined
}

/** Makes one, in an order in which whoever dies in between leaves nothing that is not written down. */
export async function claimPlace(grounds: Grounds, request: PlaceRequest, claims: Claims): Promise<Place> {
  await grounds.mend?.()
  const name = `${request.tenant}-${randomBytes(4).toString('hex')}`
  const root =
    grounds.workers === undefined ? join(temporaryDirectory(), `corral-${name}`) : join(grounds.workers, name)
  const cgroups = request.cgroups.map(({ kind, parent }) => ({ kind, path: join(parent, cgroupName(name)) }))
  const entry = await grounds.ledger?.add({ name, directory: root, cgroups })
  if (entry) claims.recordIn(entry)
  const user = request.user === 'own' ? takeUid() : undefined
  if (user) claims.add(user)
  const directory = await createDirectory(root, request.run, user?.uid)
  claims.add(directory)
  const cgroup = cgroups.length === 0 ? undefined : await createCgroup(request.cgroups, cgroupName(name))
  if (cgroup) claims.add(cgroup)
  return { directory, uid: user?.uid, cgroup, entry }
}
