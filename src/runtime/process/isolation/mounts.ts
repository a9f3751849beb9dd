import { dirname, join, relative } from 'node:path'
import { InvalidOptionError } from '../../errors.ts'
import { statsOf } from '../file.ts'
import { follow, readLink } from '../follow.ts'
import type { MountTable } from './mount-table.ts'
import type { Bind } from './options.ts'
import { isWithin } from './within.ts'
import type { WritableAreas } from './writable-areas.ts'

/** Sockets of services, other users' files, and whatever else lies about: an empty directory on each that exists. */
const HIDDEN = ['/home', '/root', '/run', '/mnt', '/media', '/var/tmp', '/tmp']

/** Every sandbox has one of its own. */
const SHARED_MEMORY = { type: 'empty', target: '/dev/shm', purpose: 'scratch' } as const satisfies Mount

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
  /** Where state directories are looked for whose supervisor is dead; no link. */
  readonly temporary: string
}

/** What there is on the machine at the moment. */
export interface Machine {
  readonly table: MountTable
  /** What workers may write to, this one included. */
  readonly areas: WritableAreas
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
 * No path may lead through what workers may write to: they could have it lead elsewhere. Something that is mounted in that is safe from
 * them only until somebody else replaces it, which takes the mount away.
 *
 * @throws `INVALID_OPTION` for what would show the state directory to workers, leave it no place, or let workers say where a mount
 *   comes from or goes to, or what is swept.
 */
export function planMounts(request: MountRequest, machine: Machine): MountPlan {
  return new Planner(request, machine).plan()
}

class Planner {
  readonly #binds: readonly Bind[]
  readonly #cwd: string | undefined
  readonly #supervisor: string | undefined
  readonly #temporary: string
  readonly #table: MountTable
  /** Where the state directory or a part of it can be seen. */
  readonly #states: readonly string[]
  readonly #areas: WritableAreas
  readonly #links = new Map<string, string | undefined>()
  #placed: Mount[] = []
  #cwdInside: string | undefined

  constructor({ binds, cwd, supervisor, temporary }: MountRequest, { table, areas }: Machine) {
    this.#binds = binds
    this.#cwd = cwd
    this.#supervisor = supervisor
    this.#temporary = temporary
    this.#table = table
    this.#states =
      supervisor === undefined ? [] : [supervisor, ...table.namesOf(supervisor), ...table.partsOf(supervisor)]
    this.#areas = areas
  }

  plan(): MountPlan {
    if (this.#supervisor !== undefined) this.#checkAreas(this.#supervisor)
    const cwd = this.#cwd
    const steps = [
      ...HIDDEN.map((path) => ({ path, place: () => this.#hide(path) })),
      ...this.#binds.map((bind) => ({ path: bind.target, place: () => this.#bind(bind) })),
      ...(cwd === undefined ? [] : [{ path: cwd, place: () => this.#showCwd(cwd) }]),
    ]
    this.#placeAll(steps)
    const places = this.#placesOfState()
    return {
      mounts: [...this.#placed, ...places.map((target) => ({ type: 'empty', target, purpose: 'hidden' }) as const)],
      cwd: this.#cwdInside,
      isBare: places.some((place) => this.#above(place)?.type !== 'empty'),
    }
  }

  /** Next is the least deep one, by where its path leads as far as a worker would see that by then. */
  #placeAll(steps: readonly { readonly path: string; readonly place: () => void }[]): void {
    const left = [...steps]
    while (left.length > 0) {
      const depths = left.map(({ path }) => depth(follow(path, { linkAt: this.#linkInside })))
      for (const { place } of left.splice(depths.indexOf(Math.min(...depths)), 1)) place()
    }
  }

  /**
   * Above the state directory, a worker could rename what leads there, or take the right to go through it from everybody. Beside those of
   * the dead, it could make one that says what is to be ended and removed.
   */
  #checkAreas(supervisor: string): void {
    for (const temporary of [this.#temporary, ...this.#table.namesOf(this.#temporary)]) {
      const what = `${this.#temporary}, where a start looks for what dead gateways have left`
      this.#refuseHolderOf(temporary, `${what}, or may only be read (TMPDIR moves it)`)
    }
    for (const state of this.#states) {
      const what = `the state directory ${supervisor}`
      this.#refuseHolderOf(state, `${what}, or may only be read (stateDirectory moves it)`)
    }
  }

  #refuseHolderOf(directory: string, what: string): void {
    const area = this.#holderOf(directory)
    if (area === undefined) return
    throw new InvalidOptionError('isolation.binds', `paths that do not hold ${what}`, `${area}, read-write`)
  }

  /** The area that a directory is, or lies in. */
  #holderOf(directory: string): string | undefined {
    const above = directory === '/' ? undefined : this.#holderOf(dirname(directory))
    return above ?? this.#areas.nameOf(directory)
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
    const source = follow(cwd, { linkAt: this.#linkAt })
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
    const covered = this.#placed.find((mount) => isWithin(targetOf(mount), bind.target))
    if (covered !== undefined) {
      const what = `${targetOf(covered)}, which is ${covered.type === 'bind' ? 'bound' : 'hidden'}`
      const given = wanted === bind.target ? wanted : `${wanted}, which leads to ${bind.target}`
      throw new InvalidOptionError('isolation.binds', `targets that do not cover ${what}`, given)
    }
    this.#placed.push({ type: 'bind', bind })
  }

  /** Where a path of this machine leads. @throws the refusal, when that is for workers to say. */
  #trace(path: string, refusal: (area: string) => Error): string {
    return follow(path, {
      linkAt: this.#linkAt,
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

  /** All of a plan goes by one look at each. */
  readonly #linkAt = (path: string): string | undefined => {
    if (!this.#links.has(path)) this.#links.set(path, readLink(path))
    return this.#links.get(path)
  }

  readonly #linkInside = (path: string): string | undefined => {
    const behind = this.#isTarget(path) ? undefined : this.#behind(path)
    return behind === undefined ? undefined : this.#linkAt(behind)
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
    const above = this.#placed.findLast((mount) => isWithin(path, targetOf(mount)))
    return above ?? (isWithin(path, SHARED_MEMORY.target) ? SHARED_MEMORY : undefined)
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
  return path.split('/').length
}
