import { existsSync, realpathSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { InvalidOptionError } from '../../errors.ts'
import type { Bind } from './options.ts'

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
  readonly cwd: string | undefined
  /** State directory, with everything of all workers. */
  readonly supervisor: string | undefined
}

/**
 * What a worker sees in place of what there is, in the order in which it is mounted: the more specific a path is, the later,
 * so that what is hidden stays so below what is bound, and what is bound is there below what is hidden. The state directory
 * comes last of all, wherever a bind would show it.
 */
export function planMounts(request: MountRequest): Mount[] {
  const { mounts, states } = layOut(request)
  return [...mounts, ...states.map((target) => ({ type: 'empty', target, purpose: 'hidden' }) as const)]
}

/**
 * Whether a worker would see the state directory but for what is mounted on that itself. The system takes such a mount away when
 * somebody else removes or replaces what it lies on.
 */
export function isBare(request: MountRequest): boolean {
  const { mounts, states } = layOut(request)
  return states.some((state) => mounts.findLast((mount) => isWithin(state, targetOf(mount)))?.type !== 'empty')
}

function layOut({ binds, cwd, supervisor }: MountRequest): { mounts: Mount[]; states: string[] } {
  const given = binds.map((bind) => ({ ...bind, target: resolve(bind.target) }))
  const hidden = HIDDEN.filter((path) => isThere(path, given))
  const bound = [...given, ...cwdBind(cwd, given, hidden)]
  const mounts = [
    ...hidden.map((target) => ({ type: 'empty', target, purpose: target === '/tmp' ? 'scratch' : 'hidden' }) as const),
    ...bound.map((bind) => ({ type: 'bind', bind }) as const),
  ]
  return {
    mounts: mounts.toSorted((a, b) => depth(targetOf(a)) - depth(targetOf(b))),
    states: supervisor === undefined ? [] : placesOf(supervisor, bound),
  }
}

/** @throws `INVALID_OPTION` for what would show the state directory to workers, leave it no place, or let them move it, or a bind. */
export function checkBinds(binds: readonly Bind[], supervisor: string): void {
  const state = realpath(supervisor)
  for (const { source, target, access } of binds) {
    const at = resolve(target)
    if (isWithin(realpath(source), state) || isWithin(at, state) || isWithin(at, resolve(supervisor))) {
      throw new InvalidOptionError('isolation.binds', `paths outside of the state directory ${supervisor}`, source)
    }
    if (isWithin(state, at) && realpath(source) !== realpath(at)) {
      const expected = `targets that do not cover the state directory ${supervisor} (stateDirectory moves it)`
      throw new InvalidOptionError('isolation.binds', expected, target)
    }
    if (access === 'read-only') continue
    if (isMovable(supervisor, source)) {
      const expected = `paths that may be read only, where the state directory ${supervisor} lies deeper in them (stateDirectory moves it)`
      throw new InvalidOptionError('isolation.binds', expected, `${source}, read-write`)
    }
    const movable = binds.find((bind) => isMovable(bind.source, source))
    if (movable !== undefined) {
      const expected = `no path that lies deeper in ${source}, where workers may put a link in its place`
      throw new InvalidOptionError('isolation.binds', expected, movable.source)
    }
  }
}

/**
 * Whether whoever may write to a directory can put something else in the place of a path: by renaming what is in between. What lies in
 * it directly cannot be renamed, as something is mounted there.
 */
function isMovable(path: string, directory: string): boolean {
  const writable = realpath(directory)
  return [resolve(path), realpath(path)].some(
    (name) => name !== writable && isWithin(dirname(name), writable) && dirname(name) !== writable,
  )
}

/** A path that is bound itself is not hidden; one below what is bound is, as far as it is there. */
function isThere(path: string, binds: readonly Bind[]): boolean {
  if (binds.some(({ target }) => target === path)) return false
  const above = mostSpecific(path, binds)
  return existsSync(above === undefined ? path : join(above.source, relative(above.target, path)))
}

/** Unless it can be seen anyway: it must not take the right to write from a bind. */
function cwdBind(cwd: string | undefined, binds: readonly Bind[], hidden: readonly string[]): Bind[] {
  if (cwd === undefined) return []
  const above = mostSpecific(cwd, binds)
  const isCovered = hidden.some((path) => isWithin(resolve(cwd), path) && path.length > (above?.target.length ?? 0))
  return above !== undefined && !isCovered ? [] : [{ source: cwd, target: resolve(cwd), access: 'read-only' }]
}

function mostSpecific(path: string, binds: readonly Bind[]): Bind | undefined {
  const above = binds.filter(({ target }) => isWithin(resolve(path), target))
  return above.toSorted((a, b) => b.target.length - a.target.length)[0]
}

/** Where a worker would see it: under its own name, and wherever a directory above it is bound to. */
function placesOf(supervisor: string, binds: readonly Bind[]): string[] {
  const state = realpath(supervisor)
  const shown = binds
    .filter(({ source }) => isWithin(state, realpath(source)))
    .map(({ source, target }) => join(target, relative(realpath(source), state)))
  return [...new Set([state, ...shown])]
}

function targetOf(mount: Mount): string {
  return mount.type === 'bind' ? mount.bind.target : mount.target
}

function depth(path: string): number {
  return path.split('/').length
}

function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory.endsWith('/') ? directory : `${directory}/`)
}

/** With all links followed; of what is not there, as it is. */
function realpath(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return resolve(path)
  }
}
