import { existsSync, readlinkSync } from 'node:fs'
import { dirname, isAbsolute, join, relative, resolve } from 'node:path'
import { InvalidOptionError } from '../../errors.ts'
import { realpath } from '../file.ts'
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

function layOut({ binds, cwd, supervisor }: MountRequest) {
  const given = binds.map((bind) => ({ ...bind, target: resolve(bind.target) }))
  const hidden = HIDDEN.filter((path) => isThere(path, given))
  const own = cwdBind(cwd, given, hidden)
  const bound = [...given, ...own]
  const mounts: Mount[] = [
    ...hidden.map((target) => ({ type: 'empty', target, purpose: target === '/tmp' ? 'scratch' : 'hidden' }) as const),
    ...bound.map((bind) => ({ type: 'bind', bind }) as const),
  ]
  return {
    mounts: mounts.toSorted((a, b) => depth(targetOf(a)) - depth(targetOf(b))),
    states: supervisor === undefined ? [] : placesOf(supervisor, bound),
    /** Of the working directory. */
    own,
  }
}

/**
 * @throws `INVALID_OPTION` for what would show the state directory to workers, leave it no place, or let workers say where a mount
 * comes from or goes to.
 */
export function checkMounts(request: MountRequest & { readonly supervisor: string }): void {
  const { binds, cwd, supervisor } = request
  const state = realpath(supervisor)
  for (const { source, target } of binds) {
    const at = resolve(target)
    if (isWithin(realpath(source), state) || isWithin(at, state) || isWithin(at, resolve(supervisor))) {
      throw new InvalidOptionError('isolation.binds', `paths outside of the state directory ${supervisor}`, source)
    }
    if (isWithin(state, at) && realpath(source) !== realpath(at)) {
      const expected = `targets that do not cover the state directory ${supervisor} (stateDirectory moves it)`
      throw new InvalidOptionError('isolation.binds', expected, target)
    }
  }
  if (cwd !== undefined && isWithin(realpath(cwd), state)) {
    throw new InvalidOptionError('cwd', `a directory outside of the state directory ${supervisor}`, cwd)
  }
  for (const bind of binds) if (bind.access === 'read-write') checkSteadiness(bind, request)
}

/**
 * Workers can rename and replace what lies in a bind that they may write to, and have it lead anywhere. Something that is mounted there
 * is safe from that only until somebody else replaces it, which takes the mount away.
 */
function checkSteadiness(writable: Bind, request: MountRequest & { readonly supervisor: string }): void {
  const { binds, supervisor } = request
  const area = realpath(writable.source)
  const isSource = (path: string) => isBelow(path, area)
  const isTarget = (path: string) => isSource(path) || isBelow(path, resolve(writable.target))
  // Directly in it, it cannot be renamed, and is watched.
  if (trailOf(dirname(supervisor)).some(isSource)) {
    const expected = `paths that may be read only, where the state directory ${supervisor} lies deeper in them (stateDirectory moves it)`
    throw new InvalidOptionError('isolation.binds', expected, `${writable.source}, read-write`)
  }
  const expected = `a path that does not lead through ${writable.source}, where workers could have it lead elsewhere`
  for (const bind of binds) {
    if (bind === writable) continue
    if (trailOf(bind.source).some(isSource)) throw new InvalidOptionError('isolation.binds', expected, bind.source)
    if (trailOf(bind.target).some(isTarget)) throw new InvalidOptionError('isolation.binds', expected, bind.target)
  }
  for (const { source } of layOut(request).own) {
    if (trailOf(source).some(isSource)) throw new InvalidOptionError('cwd', expected, source)
  }
}

/** What lies on the way to a path, each of which decides where that leads: directories, and links, which are followed. */
function trailOf(path: string): string[] {
  const trail: string[] = []
  const left = resolve(path).split('/')
  let at = '/'
  while (left.length > 0) {
    const here = resolve(at, left.shift() as string)
    // Of links in a circle.
    if (trail.length > MAX_TRAIL) break
    trail.push(here)
    const link = linkAt(here)
    if (link !== undefined) left.unshift(...link.split('/'))
    at = link === undefined ? here : isAbsolute(link) ? '/' : dirname(here)
  }
  return trail
}

const MAX_TRAIL = 1_000

function linkAt(path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch {
    return undefined // No link.
  }
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

function isBelow(path: string, directory: string): boolean {
  return path !== directory && isWithin(path, directory)
}

function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory.endsWith('/') ? directory : `${directory}/`)
}
