import { temporaryOf } from '../directory.ts'
import { enter } from './entry.ts'
import { SOCKET_DIRECTORY } from './inside.ts'
import type { Mount } from './mounts.ts'
import type { IsolationLevel, IsolationSettings, Limits } from './options.ts'

/** What the command of one worker is wrapped with. */
export interface Wrapping {
  readonly network: IsolationSettings['network']
  /** What of the file system is covered, at `full`. */
  readonly mounts: readonly Mount[]
  readonly limits: Limits
  /** Files of cgroups to write `0` to, from inside and before anything else. */
  readonly cgroupEntries: readonly string[]
  /** Variables for the command; absent: none of them matters. */
  readonly env?: Readonly<Record<string, string>> | undefined
  /** User and group id to become; absent: this process's own. */
  readonly uid?: number | undefined
  /** Where the programs are; a worker's own `PATH` need not have them. */
  readonly tools: Tools
  /** The worker's own directories, as it and we see them. */
  readonly directory?: { readonly root: string; readonly home: string; readonly run: string | undefined } | undefined
  /** Where its unix socket is: in the directory, or in the sandbox alone; absent: it has none. */
  readonly socket?: 'disk' | 'memory' | undefined
  /** Working directory, as the worker sees it; absent: that of this process, or the private one where that cannot be seen. */
  readonly cwd?: string | undefined
}

/** Paths of programs; absent: not to be had, or not of any use. */
export interface Tools {
  readonly bwrap?: string | undefined
  readonly setpriv?: string | undefined
}

/** How one level is reached. */
export interface Level {
  /** The next weaker one. */
  readonly below: IsolationLevel | undefined
  /** Programs without which it cannot be. */
  readonly tools: readonly (keyof Tools)[]
  /**
   * How to signal the worker: `'group'`, its process group and who leads it; `'wrapper'`, what the wrapper tells on
   * {@link STATUS_FD}, as it does not pass signals on.
   */
  readonly signals: 'group' | 'wrapper'
  /** Whether the wrapper reads a filter of system calls from {@link SECCOMP_FD}. */
  readonly filters: boolean
  /** What goes in front of the worker's command. */
  wrap(wrapping: Wrapping): readonly string[]
}

/** Descriptor on which bubblewrap tells the id of its init, and how the command ended. */
export const STATUS_FD = 3
/** Descriptor from which bubblewrap reads the filter. */
export const SECCOMP_FD = 4

export const levels: Readonly<Record<IsolationLevel, Level>> = {
  none: {
    below: undefined,
    tools: [],
    signals: 'group',
    filters: false,
    wrap: (wrapping) => enter(wrapping),
  },
  group: {
    below: 'none',
    tools: [],
    signals: 'group',
    filters: false,
    wrap: (wrapping) => [...enter(wrapping), ...dieWithParent(wrapping)],
  },
  namespaces: {
    below: 'group',
    tools: ['bwrap'],
    signals: 'wrapper',
    filters: false,
    wrap: (wrapping) => [...enter(wrapping), ...bubblewrap(wrapping), '--dev-bind', '/', '/', '--proc', '/proc', '--'],
  },
  full: {
    below: 'namespaces',
    tools: ['bwrap', 'setpriv'],
    signals: 'wrapper',
    filters: true,
    wrap: (wrapping) => [...enter(wrapping), ...dropUser(wrapping), ...bubblewrap(wrapping), ...walls(wrapping), '--'],
  },
}

/** Room in a private `/tmp` without a limit of the user's. It lies in memory, and counts as the worker's. */
const TEMPORARY_BYTES = 256 * 1024 ** 2

/** The helper that starts workers ends them when its parent is gone; this is for when it is killed itself. */
function dieWithParent({ tools: { setpriv } }: Wrapping): string[] {
  return setpriv === undefined ? [] : [setpriv, '--pdeathsig', 'KILL', '--']
}

/**
 * A new session makes init lead a process group, to which a polite signal can go: init itself is immune to it. It also
 * keeps the worker from typing into the terminal of this process (TIOCSTI).
 */
function bubblewrap({ tools: { bwrap = 'bwrap' } }: Wrapping): string[] {
  const lives = ['--die-with-parent', '--new-session', '--unshare-pid', '--unshare-ipc']
  return [bwrap, ...lives, '--json-status-fd', String(STATUS_FD)]
}

/** bubblewrap keeps every capability when root runs it: without another user it would be no wall at all. */
export function dropUser({ uid, tools: { setpriv = 'setpriv' } }: Pick<Wrapping, 'uid' | 'tools'>): string[] {
  if (uid === undefined) return []
  return [setpriv, '--reuid', String(uid), '--regid', String(uid), '--clear-groups', '--inh-caps=-all', '--']
}

function walls({ network, mounts, limits, directory, socket, cwd }: Wrapping): string[] {
  const temporary = ['--size', String(limits.disk ?? TEMPORARY_BYTES)]
  const rights = ['--unshare-uts', '--unshare-cgroup-try', '--unshare-user-try', '--cap-drop', 'ALL']
  const filter = ['--seccomp', String(SECCOMP_FD)]
  const system = ['--ro-bind', '/', '/', '--dev', '/dev', ...temporary, '--tmpfs', '/dev/shm', '--proc', '/proc']
  const hidden = mounts.flatMap((mount) => (mount.type === 'empty' && mount.purpose === 'hidden' ? mount.target : []))
  return [
    ...rights,
    ...(network === 'none' ? ['--unshare-net'] : []),
    ...filter,
    ...system,
    ...mounts.flatMap((mount) => toArguments(mount, temporary)),
    ...(directory === undefined ? [] : ownDirectory(directory, limits)),
    ...(socket === 'memory' ? [...temporary, '--tmpfs', SOCKET_DIRECTORY] : []),
    // Last, as the places for what is bound below them are made first.
    ...['/dev', ...hidden].flatMap((path) => ['--remount-ro', path]),
    ...(cwd === undefined ? [] : ['--chdir', cwd]),
  ]
}

function toArguments(mount: Mount, size: readonly string[]): string[] {
  if (mount.type === 'empty') return [...(mount.purpose === 'scratch' ? size : []), '--tmpfs', mount.target]
  const { source, target, access } = mount.bind
  return [access === 'read-only' ? '--ro-bind' : '--bind', source, target]
}

function ownDirectory({ home, run }: NonNullable<Wrapping['directory']>, { disk }: Limits): string[] {
  const inMemory = ['--size', String(disk), '--tmpfs', home, '--dir', temporaryOf(home)]
  const own = disk === undefined ? ['--bind', home, home] : inMemory
  return [...own, ...(run === undefined ? [] : ['--bind', run, run])]
}
