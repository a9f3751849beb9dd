import { realpathSync } from 'node:fs'
import { lstat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'

/** Which file it is that lies at `path`, links not followed; `undefined`: none. It is no other one's for as long as anybody has it open. */
export async function fileAt(path: string): Promise<string | undefined> {
  return lstat(path).then(
    ({ dev, ino }) => `${dev}:${ino}`,
    () => undefined,
  )
}

/** With all links followed; of what is not there, those on the way to it. */
export function realpath(path: string): string {
  const name = resolve(path)
  try {
    return realpathSync(name)
  } catch {
    const parent = dirname(name)
    return parent === name ? name : join(realpath(parent), basename(name))
  }
}
