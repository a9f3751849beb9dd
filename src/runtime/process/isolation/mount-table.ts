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

/** What is mounted where, at one moment: by which other names a directory can be reached. None of them leads through a link. */
export class MountTable {
  readonly #points: readonly MountPoint[]

  private constructor(points: readonly MountPoint[]) {
    this.#points = points
  }

  /** @throws when there is one that cannot be read. */
  static read(): MountTable {
    if (process.platform !== 'linux') return new MountTable([])
    return new MountTable(parse(readFileSync('/proc/self/mountinfo', 'utf8')))
  }

  /** Where what holds a directory is mounted a second time. */
  namesOf(directory: string): string[] {
    const home = this.#homeOf(directory)
    return home === undefined ? [] : this.#others(directory, this.#namesOfTree(home))
  }

  /** Where something in a directory is mounted a second time, or what is mounted in it is. */
  partsOf(directory: string): string[] {
    const home = this.#homeOf(directory)
    const inside = this.#points.filter(({ at }) => at !== directory && isWithin(at, directory))
    const trees = home === undefined ? inside : [home, ...inside]
    return this.#others(directory, [
      ...inside.flatMap((tree) => this.#namesOfTree(tree)),
      ...trees.flatMap((tree) => this.#partsOfTree(tree)),
    ])
  }

  /** As if it were mounted itself. */
  #homeOf(directory: string): MountPoint | undefined {
    const around = this.#points
      .filter(({ at }) => isWithin(directory, at))
      .toSorted((a, b) => a.at.length - b.at.length)
    const home = around.at(-1)
    return home && { ...home, root: join(home.root, relative(home.at, directory)), at: directory }
  }

  #namesOfTree(tree: MountPoint): Name[] {
    return this.#points
      .filter(({ device, root }) => device === tree.device && isWithin(tree.root, root))
      .map(({ root, at }) => ({ path: join(at, relative(root, tree.root)), original: tree.at }))
  }

  #partsOfTree(tree: MountPoint): Name[] {
    return this.#points
      .filter(({ device, root }) => device === tree.device && root !== tree.root && isWithin(root, tree.root))
      .map(({ root, at }) => ({ path: at, original: join(tree.at, relative(tree.root, root)) }))
  }

  /** What is mounted there may be covered by something else. */
  #others(directory: string, names: readonly Name[]): string[] {
    const there = names.filter(({ path, original }) => !isWithin(path, directory) && isSameDirectory(path, original))
    return [...new Set(there.map(({ path }) => path))]
  }
}

interface Name {
  readonly path: string
  /** By the name of the directory that was asked for. */
  readonly original: string
}

function parse(text: string): MountPoint[] {
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

function isSameDirectory(path: string, other: string): boolean {
  const [one, two] = [statsOf(path), statsOf(other)]
  return one?.isDirectory() === true && two !== undefined && idOf(one) === idOf(two)
}
