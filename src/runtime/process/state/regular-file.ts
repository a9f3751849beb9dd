import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'

/** Bytes: far more than anything has that is kept here. A larger one may be more than can be held. */
const MAX_SIZE = 1024 * 1024

/**
 * @returns what the file holds; `undefined` where there is none.
 * @throws when it is there, and cannot be read, or is too large, or of another kind.
 */
export async function readRegularFile(path: string): Promise<string | undefined> {
  let file: FileHandle | undefined
  try {
    // The opening of a pipe would wait for a writer. Windows has none in a directory, nor the flag.
    file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
    const stats = await file.stat()
    if (!stats.isFile()) throw new Error('something that is no file')
    if (stats.size > MAX_SIZE) throw new Error(`${stats.size} bytes`)
    return await file.readFile('utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  } finally {
    await file?.close()
  }
}
