import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import { idOf, statsOf } from '../file.ts'

/** Opens a directory only to hold it, for which no right to read it is needed (open(2)). Node.js has no name for it. */
const O_PATH = 0o10000000

/**
 * The directories that workers may write to, or may since their start, whatever their names are by now: what lies below one can be
 * renamed and replaced, and lead anywhere.
 */
export class WritableAreas {
  /** Each by what it is, held open, as no other file gets its number then; with the name that it had. */
  readonly #held = new Map<string, { readonly name: string; readonly descriptor: number }>()

  /** Adds what lies at a path, links followed. Nothing can be put into what is no directory. */
  add(path: string): void {
    let descriptor: number
    try {
      descriptor = openSync(path, O_PATH | constants.O_DIRECTORY)
    } catch {
      return
    }
    const id = idOf(fstatSync(descriptor))
    if (this.#held.has(id)) closeSync(descriptor)
    else this.#held.set(id, { name: path, descriptor })
  }

  /** The name of the area that a directory is the top of. */
  nameOf(directory: string): string | undefined {
    const stats = statsOf(directory)
    return stats && this.#held.get(idOf(stats))?.name
  }

  clear(): void {
    for (const { descriptor } of this.#held.values()) closeSync(descriptor)
    this.#held.clear()
  }
}
