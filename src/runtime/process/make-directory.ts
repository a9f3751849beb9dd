import { chmod, mkdir } from 'node:fs/promises'

/** Makes a directory with just that mode, of which the umask would take what even its owner needs. */
export async function makeDirectory(path: string, mode: number): Promise<void> {
  await mkdir(path, mode)
  await chmod(path, mode)
}
