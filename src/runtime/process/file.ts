import { lstat } from 'node:fs/promises'

/** Which file it is that lies at `path`, links not followed; `undefined`: none. It is no other one's for as long as anybody has it open. */
export async function fileAt(path: string): Promise<string | undefined> {
  return lstat(path).then(
    ({ dev, ino }) => `${dev}:${ino}`,
    () => undefined,
  )
}
