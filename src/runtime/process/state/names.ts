import { readdir } from 'node:fs/promises'

/** What is in a directory; nothing where there is none, as somebody else may be removing it. */
export async function namesIn(directory: string): Promise<string[]> {
  return readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
}
