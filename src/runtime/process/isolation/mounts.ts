import { dirname, join, relative, resolve } from 'node:path'
import { InvalidOptionError } from '../../errors.ts'
import { aliasesOf } from './aliases.ts'
import { statsOf } from '../file.ts'
import { follow, readLink } from '../follow.ts'
import type { Bind } from './options.ts'
import { isWithin } from './within.ts'
import { WritableAreas } from './writable-areas.ts'

/** Sockets of services, other users' files, and whatever else lies about: an empty directory on each that exists. */
const HIDDEN = ['/home', '/root', '/run', '/mnt', '/media', '/var/tmp', '/tmp']

/** One thing that is put over the file system of the machine. */
export type Mount =
  | { readonly type: 'bind'; readonly bind: Bind }
  | {
      readonly type: 'empty'
      readonly target: string
      /** `scratch`: the worker may write to it. `hidden`: it is made read-only at the end. */
      readonly purpose: 'hidden' | 'scratch'
    }

export interface MountRequest {
  readonly binds: readonly Bind[]
  /** Absolute. */
  readonly cwd: string | undefined
  /** State directory, with everything of all workers; no link. */
  readonly supervisor: string | undefined
}

export interface MountPlan {
  /** In the order in which they are mounted. Neither source nor target leads through a link. */
  readonly mounts: readonly Mount[]
  /**
   * Whether a worker would see the state directory but for what is mounted on that itself. The system takes such a mount away when
   * somebody else removes or replaces what it lies on.
   */
  readonly isBare: boolean
  /** Where the worker sees its working directory. */
  readonly cwd: string | undefined
}

/**
 * What a worker sees in place of what there is: the more specific a path is, the later it is mounted, so that what is hidden stays
 * so below what is bound, and what is bound is there below what is hidden. The state directory comes last of all, wherever it would
 * be seen.
 *
 * @param areas get what the worker may write to. No path may lead through one: workers could have it lead elsewhere. Something that
 *   is mounted in one is safe from them only until somebody else replaces it, which takes the mount away.
 * @throws `INVALID_OPTION` for what would show the state directory to workers, leave it no place, or let workers say where a mount
 *   comes from or goes to.
 */
export function planMounts(request: MountRequest, areas = new WritableAreas()): MountPlan {
  return new Planner(request, areas).plan()
}

class Planner {
  readonly #binds: readonly Bind[]
  readonly #cwd: string | undefined
  readonly #supervisor: string | undefined
  /** The state directory's names. */
  readonly #states: readonly string[]
  readonly #areas: WritableAreas
  #placed: Mount[] = []
  #cwdInside: string | undefined

  constructor({ binds, cwd, supervisor }: MountRequest, areas: WritableAreas) {
    this.#binds = binds
    this.#cwd = cwd
    this.#supervisor = supervisor
    this.#states = supervisor === undefined ? [] : [supervisor, ...aliasesOf(supervisor)]
    this.#areas = areas
  }

  plan(): MountPlan {
    for (const { source, access } of this.#binds) if (access === 'read-write') this.#areas.add(source)
    if (this.#supervisor !== undefined) this.#checkSupervisor(this.#supervisor)
    const cwd = this.#cwd
    const steps = [
      ...HIDDEN.map((path) => ({ path, place: () => this.#hide(path) })),
      ...this.#binds.map((bind) => ({ path: bind.target, place: () => this.#bind(bind) })),
      ...(cwd === undefined ? [] : [{ path: cwd, place: () => this.#showCwd(cwd) }]),
    ]
    for (const { place } of steps.toSorted((a, b) => depth(a.path) - depth(b.path))) place()
    const places = this.#placesOfState()
    return {
      mounts: [...this.#placed, ...places.map((target) => ({ type: 'empty', target, purpose: 'hidden' }) as const)],
      cwd: this.#cwdInside,
      isBare: places.some((place) => this.#above(place)?.type !== 'empty'),
    }
  }

  /** Directly in an area it cannot be renamed, as something is mounted on it, and whether it is replaced is looked at. */
  #checkSupervisor(supervisor: string): void {
    this.#trace(dirname(supervisor), (area) => {
      const expected = `paths that may be read only, where the state directory ${supervisor} lies deeper in them (stateDirectory moves it)`
      return new InvalidOptionError('isolation.binds', expected, `${area}, read-write`)
    })
  }

  /** A path that is bound itself is not hidden. Of a link it is where it leads, unless a worker may have made that. */
  #hide(path: string): void {
    let isSteered = false
    const onLookUp = (directory: string) => (isSteered ||= this.#areaAt(directory) !== undefined)
    const target = follow(path, { linkAt: this.#linkInside, onLookUp })
    if (target !== path && isSteered) return
    const behind = this.#behind(target)
    if (behind === undefined || statsOf(behind)?.isDirectory() !== true) return
    if (this.#isTarget(target)) return
    this.#placed.push({ type: 'empty', target, purpose: path === '/tmp' ? 'scratch' : 'hidden' })
  }

  #bind({ source: given, target: wanted, access }: Bind): void {
    const source = this.#trace(given, (area) => steerable('isolation.binds', given, area))
    const target = this.#traceInside(wanted, 'isolation.binds')
    if (this.#states.some((state) => isWithin(source, state) || isWithin(target, state))) {
      throw new InvalidOptionError('isolation.binds', `paths outside of the state directory ${this.#supervisor}`, given)
    }
    if (this.#states.some((state) => isWithin(state, target) && source !== target)) {
      const expected = `targets that do not cover the state directory ${this.#supervisor} (stateDirectory moves it)`
      throw new InvalidOptionError('isolation.binds', expected, wanted)
    }
    this.#place({ source, target, access }, wanted)
  }

  /** Unless it can be seen anyway: it must not take the right to write from a bind. */
  #showCwd(cwd: string): void {
    const source = follow(cwd, { linkAt: readLink })
    if (this.#states.some((state) => isWithin(source, state))) {
      throw new InvalidOptionError('cwd', `a directory outside of the state directory ${this.#supervisor}`, cwd)
    }
    this.#cwdInside = follow(cwd, { linkAt: this.#linkInside })
    if (this.#behind(this.#cwdInside) === source) return
    this.#trace(cwd, (area) => steerable('cwd', cwd, area))
    this.#place({ source, target: this.#traceInside(cwd, 'cwd'), access: 'read-only' }, cwd)
  }

  #place(bind: Bind, wanted: string): void {
    // Hidden itself: it takes that one's place.
    this.#placed = this.#placed.filter((mount) => mount.type === 'bind' || mount.target !== bind.target)
    if (this.#placed.some((mount) => isWithin(targetOf(mount), bind.target))) {
      throw new InvalidOptionError(
        'isolation.binds',
        'targets that do not cover one another, or what is hidden',
        wanted,
      )
    }
    this.#placed.push({ type: 'bind', bind })
  }

  /** Where a path of this machine leads. @throws the refusal, when that is for workers to say. */
  #trace(path: string, refusal: (area: string) => Error): string {
    return follow(path, {
      linkAt: readLink,
      onLookUp: (directory) => {
        const area = this.#areas.nameOf(directory)
        if (area !== undefined) throw refusal(area)
      },
    })
  }

  /** Where a path leads as far as a worker sees it by now. @throws when that is for workers to say. */
  #traceInside(path: string, option: string): string {
    return follow(path, {
      linkAt: this.#linkInside,
      onLookUp: (directory) => {
        const area = this.#areaAt(directory)
        if (area !== undefined) throw steerable(option, path, area)
      },
    })
  }

  readonly #linkInside = (path: string): string | undefined => {
    const behind = this.#isTarget(path) ? undefined : this.#behind(path)
    return behind === undefined ? undefined : readLink(behind)
  }

  #areaAt(directory: string): string | undefined {
    const behind = this.#behind(directory)
    return behind === undefined ? undefined : this.#areas.nameOf(behind)
  }

  #isTarget(path: string): boolean {
    return this.#placed.some((mount) => targetOf(mount) === path)
  }

  /** What of this machine a worker sees at a path, as far as that is known by now; `undefined`: nothing. */
  #behind(path: string): string | undefined {
    const above = this.#above(path)
    if (above === undefined) return path
    return above.type === 'empty' ? undefined : join(above.bind.source, relative(above.bind.target, path))
  }

  #above(path: string): Mount | undefined {
    return this.#placed.findLast((mount) => isWithin(path, targetOf(mount)))
  }

  /** Under its own name, wherever it is mounted a second time, and wherever a directory above it is bound to. */
  #placesOfState(): string[] {
    const shown = this.#placed.flatMap((mount) => {
      if (mount.type === 'empty') return []
      const { source, target } = mount.bind
      return this.#states.flatMap((state) => (isWithin(state, source) ? join(target, relative(source, state)) : []))
    })
    const [own = [], ...aliases] = this.#states
    return [...new Set([own, aliases.filter((alias) => this.#behind(alias) === alias), shown].flat())]
  }
}

function steerable(option: string, path: string, area: string): InvalidOptionError {
  const expected = `a path that does not lead through ${area}, where workers could have it lead elsewhere`
  return new InvalidOptionError(option, expected, path)
}

function targetOf(mount: Mount): string {
  return mount.type === 'bind' ? mount.bind.target : mount.target
}

function depth(path: string): number {
  return resolve(path).split('/').length
}
