import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import type { Claim } from '../claims.ts'
import { idOf, statsOf } from '../file.ts'

/** Opens a directory only to hold it, for which no right to read it is needed (open(2)). Node.js has no name for it. */
const O_PATH = 0o10000000

/** That there is no directory that anybody of this process's user could get to. */
const NOT_THERE: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'EACCES'])

/** A directory by a path to it, links followed, and what to call it. */
export interface Named {
  readonly path: string
  readonly name: string
}

interface Area {
  readonly name: string
  readonly descriptor: number
  uses: number
}

/**
 * The directories that workers may write to while they run, whatever the names of these are by now: what lies below one can be renamed
 * and replaced, and lead anywhere.
 */
export class WritableAreas {
  /** Each by what it is, held open, as no other file gets its number then. */
  readonly #areas = new Map<string, Area>()

  /**
   * Adds what there is of them, until it is released. Nothing can be put into what is no directory.
   *
   * @throws what keeps it from being known, such as a lack of descriptors.
   */
  hold(directories: readonly Named[]): Claim {
    const ids: string[] = []
    const releaseNow = () => {
      for (const id of ids.splice(0)) this.#drop(id)
    }
    try {
      for (const directory of directories) ids.push(...this.#use(directory))
    } catch (error) {
      releaseNow()
      throw error
    }
    return { release: async () => releaseNow(), releaseNow }
  }

  /** The name of the area that a directory is the top of. */
  nameOf(directory: string): string | undefined {
    const stats = statsOf(directory)
    return stats && this.#areas.get(idOf(stats))?.name
  }

  #use({ path, name }: Named): string[] {
    let descriptor: number
    try {
      descriptor = openSync(path, O_PATH | constants.O_DIRECTORY)
    } catch (error) {
      if (NOT_THERE.has((error as NodeJS.ErrnoException).code)) return []
      throw error
    }
    const id = idOf(fstatSync(descriptor))
    const area = this.#areas.get(id)
    if (area === undefined) this.#areas.set(id, { name, descriptor, uses: 1 })
    else {
      closeSync(descriptor)
      area.uses++
    }
    return [id]
  }

  #drop(id: string): void {
    const area = this.#areas.get(id)
    if (area === undefined || --area.uses > 0) return
    this.#areas.delete(id)
    closeSync(area.descriptor)
  }
}
