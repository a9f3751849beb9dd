import { readlinkSync } from 'node:fs'
import { dirname, isAbsolute, join, resolve } from 'node:path'

/** What a path leads through, for {@link follow}. */
export interface Terrain {
  /** Where a link leads; `undefined`: it is none, or not there. */
  readonly linkAt: (path: string) => string | undefined
  /** Told of each directory in which a name on the way is looked up: whoever may write to that says where the path leads. */
  readonly onLookUp?: ((directory: string) => void) | undefined
}

/** As many links as Linux follows of one path (path_resolution(7)). */
const MAX_LINKS = 40

/** Where an absolute path leads, whether or not all of it is there. Of a circle of links: some way into it. */
export function follow(path: string, { linkAt, onLookUp }: Terrain): string {
  const left = path.split('/')
  let at = '/'
  let links = 0
  while (left.length > 0) {
    const name = left.shift() as string
    if (name === '' || name === '.') continue
    if (name === '..') {
      at = dirname(at)
      continue
    }
    onLookUp?.(at)
    const here = join(at, name)
    const link = links < MAX_LINKS ? linkAt(here) : undefined
    if (link === undefined) {
      at = here
      continue
    }
    links++
    left.unshift(...link.split('/'))
    if (isAbsolute(link)) at = '/'
  }
  return at
}

/** As the kernel takes it: by the text alone, `..` behind a link leads elsewhere. */
export function pathIn(directory: string, path: string): string {
  return isAbsolute(path) ? path : `${directory}/${path}`
}

/** Absolute, from the working directory of this process. @throws when that has been removed. */
export function pathFromHere(path: string): string {
  if (process.platform === 'win32') return resolve(path)
  return isAbsolute(path) ? path : pathIn(process.cwd(), path)
}

/** Of a link of this machine. */
export function readLink(path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch {
    return undefined // No link.
  }
}
