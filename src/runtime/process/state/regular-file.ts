import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'

/** @returns what the file holds; nothing where there is none, or it cannot be read, or is another kind of file. */
export async function readRegularFile(path: string): Promise<string> {
  let file: FileHandle | undefined
  try {
    // The opening of a pipe would wait for a writer. Windows has none in a directory, nor the flag.
    file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
    return (await file.stat()).isFile() ? await file.readFile('utf8') : ''
  } catch {
    return ''
  } finally {
    await file?.close()
  }
}
