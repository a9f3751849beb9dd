import { statSync, type Stats } from 'node:fs'
import { lstat } from 'node:fs/promises'

/** Which file it is that lies at `path`, links not followed; `undefined`: none. It is no other one's for as long as anybody has it open. */
export async function fileAt(path: string): Promise<string | undefined> {
  return lstat(path).then(idOf, () => undefined)
}

/** Which file it is, by what {@link fileAt} says of it, too. */
export function idOf({ dev, ino }: Stats): string {
  return `${dev}:${ino}`
}

/** Of what lies at `path`, links followed; `undefined`: nothing, or it is out of reach. */
export function statsOf(path: string): Stats | undefined {
  try {
    return statSync(path)
  } catch {
    return undefined
  }
}
