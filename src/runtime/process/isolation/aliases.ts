import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { idOf, statsOf } from '../file.ts'
import { isWithin } from './within.ts'

/** One line of proc_pid_mountinfo(5): what of a file system is mounted, and where. */
interface MountPoint {
  readonly device: string
  readonly root: string
  readonly at: string
}

/** The other names of a directory: where what holds it is mounted a second time. */
export function aliasesOf(directory: string): string[] {
  const points = readMountPoints()
  const own = points.filter(({ at }) => isWithin(directory, at)).toSorted((a, b) => a.at.length - b.at.length)
  const home = own.at(-1)
  if (home === undefined) return []
  const inside = join(home.root, relative(home.at, directory))
  const names = points
    .filter(({ device, root }) => device === home.device && isWithin(inside, root))
    .map(({ root, at }) => join(at, relative(root, inside)))
  const id = idAt(directory)
  // What is mounted there may be covered by something else.
  return [...new Set(names)].filter((name) => name !== directory && idAt(name) === id)
}

function readMountPoints(): MountPoint[] {
  let text: string
  try {
    text = readFileSync('/proc/self/mountinfo', 'utf8')
  } catch {
    return [] // Not Linux.
  }
  return text.split('\n').flatMap((line) => {
    const [, , device, root, at] = line.split(' ')
    if (device === undefined || root === undefined || at === undefined) return []
    return { device, root: unescape(root), at: unescape(at) }
  })
}

/** Blanks and backslashes are octal. */
function unescape(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}

function idAt(path: string): string | undefined {
  const stats = statsOf(path)
  return stats && idOf(stats)
}
