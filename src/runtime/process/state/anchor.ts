import { lstat, open, type FileHandle } from 'node:fs/promises'
import { idOf } from '../file.ts'

/** Tells whether the directory at a path is still the one that was there. */
export class Anchor {
  readonly #path: string
  /** As long as it is open, no other file gets its number. */
  #directory: FileHandle

  private constructor(path: string, directory: FileHandle) {
    this.#path = path
    this.#directory = directory
  }

  static async at(path: string): Promise<Anchor> {
    return new Anchor(path, await open(path))
  }

  /** @throws what keeps it from being looked at. */
  async holds(): Promise<boolean> {
    const there = await lstat(this.#path).then(idOf, (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error
    })
    return there === idOf(await this.#directory.stat())
  }

  /** Holds on to the directory that is there now. */
  async renew(): Promise<void> {
    const directory = await open(this.#path)
    await this.#directory.close()
    this.#directory = directory
  }

  close(): Promise<void> {
    return this.#directory.close()
  }
}
