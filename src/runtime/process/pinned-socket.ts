import { closeSync, constants, fstatSync, openSync, symlinkSync, unlinkSync } from 'node:fs'
import type { Claim } from './claims.ts'
import { openInside } from './isolation/inside.ts'

/** `O_PATH` of Linux, the same on x86-64 and arm64: names a file without opening it, and takes any kind of file. */
const O_PATH = 0o10000000

export interface PinnedSocketOptions {
  /** Where the worker makes it. Every directory before the last name has to be out of the worker's reach. */
  readonly path: string
  /** In whose file system that is: in this process's own, or inside of the worker's sandbox alone. */
  readonly view: 'own' | 'sandbox'
  /** Where it is connected to: in a directory that is not the worker's to write to, and nothing is there yet. */
  readonly link: string
  /** Whose it has to be: user id. */
  readonly owner: number
}

/**
 * The unix socket of a worker that may put anything in its place: a link to a service of the machine, above all, which would
 * be followed with our rights. So it is connected to by what it is and never by its name: the file that was found to be a
 * socket of the worker's is kept open, and `link` leads to that (connect(2) follows /proc/PID/fd/N to the file itself).
 */
export class PinnedSocket implements Claim {
  readonly #options: PinnedSocketOptions
  #held: { readonly fd: number; readonly device: bigint; readonly inode: bigint } | 'nothing' | 'released' = 'nothing'

  constructor(options: PinnedSocketOptions) {
    this.#options = options
  }

  /**
   * Takes hold of what is there now, and lets go of what was there before.
   *
   * @param leader id of the worker's process.
   * @throws when that is no socket of the worker's, with `ENOENT` as its code when nothing is there.
   */
  take(leader: number): void {
    const { path, view, link, owner } = this.#options
    if (this.#held === 'released') throw new Error('The worker is gone')
    // Of what is a link itself, this opens the link.
    const flags = O_PATH | constants.O_NOFOLLOW
    const fd = view === 'own' ? openSync(path, flags) : openInside(leader, path, flags)
    try {
      const stats = fstatSync(fd, { bigint: true })
      const { dev: device, ino: inode, uid } = stats
      if (!stats.isSocket()) throw new Error(`${path} is not a unix socket, and is not followed`)
      if (uid !== BigInt(owner))
        throw new Error(`${path} is a socket of user ${uid}, and not of the worker's, ${owner}`)
      // What is held cannot be given away: the same numbers are the same file.
      if (this.#held !== 'nothing' && this.#held.device === device && this.#held.inode === inode) return closeSync(fd)
      this.#drop()
      symlinkSync(`/proc/${process.pid}/fd/${fd}`, link)
      this.#held = { fd, device, inode }
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  async release(): Promise<void> {
    this.releaseNow()
  }

  releaseNow(): void {
    this.#drop()
    this.#held = 'released'
  }

  #drop(): void {
    if (typeof this.#held === 'string') return
    const { fd } = this.#held
    this.#held = 'nothing'
    // In this order: the number of the descriptor may be that of another worker's socket in the next moment. If the link
    // cannot be removed, the descriptor stays open for that reason.
    removeLink(this.#options.link)
    closeSync(fd)
  }
}

function removeLink(path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
