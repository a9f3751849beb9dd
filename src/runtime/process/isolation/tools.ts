import { access, constants } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import type { Tools } from './levels.ts'

/** Where the programs are that levels are made of. */
export async function findTools(): Promise<Tools> {
  const [bwrap, setpriv] = await Promise.all([findTool('bwrap'), findTool('setpriv')])
  return { bwrap, setpriv }
}

async function findTool(name: string): Promise<string | undefined> {
  for (const directory of (process.env.PATH ?? '').split(':').filter(isAbsolute)) {
    const path = join(directory, name)
    const isFound = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    )
    if (isFound) return path
  }
  return undefined
}

/** What to install for it. */
export function packageOf(tool: string): string {
  return tool === 'bwrap'
    ? 'install bubblewrap (Debian, Ubuntu: apt-get install bubblewrap)'
    : `install the ${tool} of util-linux (Debian, Ubuntu: apt-get install util-linux)`
}
