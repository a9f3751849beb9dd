import { chmod, rm, writeFile } from 'node:fs/promises'

/**
 * Writes a file of this user's alone, or leaves none. The system's error names it: that of a write, such as ENOSPC, would say
 * nothing but that.
 */
export async function writeWhole(path: string, content: string | Buffer): Promise<void> {
  try {
    await writeFile(path, content, { mode: 0o600 })
    // Whatever the umask has left of it.
    await chmod(path, 0o600)
  } catch (error) {
    await rm(path, { force: true }).catch(() => {}) // Why it could not be written says more.
    const problem = error as NodeJS.ErrnoException
    if (problem.path !== undefined) throw problem
    throw Object.assign(problem, { message: `${problem.message} ${JSON.stringify(path)}`, path })
  }
}
