import { randomBytes } from 'node:crypto'
import { constants, type Dirent } from 'node:fs'
import { chmod, lstat, opendir, rename, rm, rmdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'

/** How much of a directory is worked on at once: all that is kept of one, however wide it is. */
const BATCH = 32
/** How many directories are. */
const LANES = 8
/** Milliseconds after which a removal stops: somebody may be filling the tree as fast as it is emptied. */
const GIVE_UP_AFTER = 600_000

const NOWHERE: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG'])

/** What of a tree could not be removed, and why. */
export class RemovalError extends Error {
  constructor(root: string, problem: string, cause?: unknown) {
    super(`${JSON.stringify(root)} could not be removed: ${problem}`, { cause })
    this.name = 'RemovalError'
  }
}

/**
 * Removes a tree whatever a worker has made of it: of any depth, with any rights on its directories, with names of any bytes.
 *
 * Directories are taken out of each other first, and put side by side into the root under names of ours. So no path is longer
 * than one name below that, nothing recurses, and nothing is remembered but a count. Only the last part of a path is ever a
 * worker's, and no call here follows that: where the root is not the worker's to write to, it cannot lead a removal elsewhere
 * even while it runs. What is mounted in the tree is left alone, as it cannot be renamed.
 *
 * @param giveUpAfter milliseconds.
 * @throws {RemovalError} when something is left. The rest is removed.
 */
export async function removeTree(root: string, giveUpAfter: number = GIVE_UP_AFTER): Promise<void> {
  // Workers of Windows have no names that are too long for it, and its files have rights that only this knows to change.
  if (process.platform === 'win32') return rm(root, { recursive: true, force: true })
  if (await isNowhere(root)) return
  const deadline = performance.now() + giveUpAfter
  for (;;) {
    const round = new Round(root, deadline)
    if (await round.run()) return
    if (round.problem !== undefined) throw new RemovalError(root, round.problem, round.cause)
    if (performance.now() > deadline) throw new RemovalError(root, `not within ${giveUpAfter} ms`)
  }
}

/** Nothing can be at such a path: something on the way there is a file, a link that leads back to itself, or too long for a name. */
async function isNowhere(path: string): Promise<boolean> {
  const code = await lstat(path).then(
    () => '',
    (error: unknown) => (error as NodeJS.ErrnoException).code ?? '',
  )
  return NOWHERE.has(code)
}

/** Goes once through all that is there. */
class Round {
  /** The first of them. */
  problem: string | undefined
  cause: unknown

  readonly #root: string
  readonly #deadline: number
  /** Another one for each round: of two processes that remove the same tree, neither takes the other's for done. */
  readonly #prefix = randomBytes(6).toString('hex')
  #made = 0

  constructor(root: string, deadline: number) {
    this.#root = root
    this.#deadline = deadline
  }

  /** @returns whether nothing is left. */
  async run(): Promise<boolean> {
    await this.#clear(this.#root)
    for (let first = 0; first < this.#made;) {
      const count = Math.min(LANES, this.#made - first)
      await Promise.all(Array.from({ length: count }, (_, lane) => this.#finish(this.#nameOf(first + lane))))
      first += count
      if (performance.now() > this.#deadline) return false
    }
    return this.#tryTo(() => rmdir(this.#root), this.#root)
  }

  #nameOf(number: number): string {
    return join(this.#root, `${this.#prefix}.${number}`)
  }

  async #finish(directory: string): Promise<void> {
    if (await this.#clear(directory)) await this.#tryTo(() => rmdir(directory), directory)
  }

  /** Empties a directory. @returns whether there is one. */
  async #clear(directory: string): Promise<boolean> {
    try {
      // One that is a link by now, which would be followed, or was never a directory.
      const stats = await lstat(directory)
      if (!stats.isDirectory()) {
        await unlink(directory)
        return false
      }
      if ((stats.mode & constants.S_IRWXU) !== constants.S_IRWXU) await chmod(directory, constants.S_IRWXU)
      let batch: Promise<void>[] = []
      // As bytes: what is no UTF-8 could not be named otherwise.
      for await (const entry of await opendir(directory, { encoding: 'buffer' as BufferEncoding, bufferSize: BATCH })) {
        batch.push(this.#remove(directory, entry as unknown as Dirent<Buffer>))
        if (batch.length < BATCH) continue
        await Promise.all(batch)
        batch = []
        if (performance.now() > this.#deadline) break
      }
      await Promise.all(batch)
      return true
    } catch (error) {
      this.#note(error, directory)
      return (error as NodeJS.ErrnoException).code !== 'ENOENT'
    }
  }

  async #remove(directory: string, entry: Dirent<Buffer>): Promise<void> {
    const path = Buffer.concat([Buffer.from(`${directory}/`), entry.name])
    if (!entry.isDirectory()) await this.#tryTo(() => unlink(path), path)
    else if (!(await this.#isRemoved(path))) await this.#tryTo(() => this.#takeOut(path), path)
  }

  async #isRemoved(directory: Buffer): Promise<boolean> {
    return rmdir(directory).then(
      () => true,
      () => false,
    )
  }

  async #takeOut(directory: Buffer): Promise<void> {
    const target = this.#nameOf(this.#made++)
    try {
      await rename(directory, target)
    } catch (error) {
      // To be moved it has to be written to: it says what its parent is.
      if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error
      if (!(await lstat(directory)).isDirectory()) throw error
      await chmod(directory, constants.S_IRWXU)
      await rename(directory, target)
    }
  }

  async #tryTo(action: () => Promise<void>, path: string | Buffer): Promise<boolean> {
    try {
      await action()
      return true
    } catch (error) {
      this.#note(error, path)
      return (error as NodeJS.ErrnoException).code === 'ENOENT'
    }
  }

  #note(error: unknown, path: string | Buffer): void {
    const { code } = error as NodeJS.ErrnoException
    // Gone: as was wanted. Filled again, or not emptied for a reason that is noted already: the next round is for that.
    if (code === 'ENOENT' || code === 'ENOTEMPTY' || code === 'EEXIST') return
    this.problem ??= `${JSON.stringify(path.toString())} (${code ?? String(error)})`
    this.cause ??= error
  }
}
