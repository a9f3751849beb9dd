import { isAbsolute, resolve } from 'node:path'
import * as z from 'zod'

/** How far a worker is kept from the machine and from other workers; each level has all of the ones before it. */
export type IsolationLevel = 'none' | 'group' | 'namespaces' | 'full'

export interface IsolationOptions {
  /**
   * - `'none'`: a process group of its own, killed with the worker.
   * - `'group'`: also a private directory, and it dies with this process, however that ends. In a cgroup where one can be
   *   made.
   * - `'namespaces'`: also its own process ids and IPC objects, under an init that reaps (Linux, bubblewrap).
   * - `'full'`: also a user of its own when this process is root, no capabilities, a read-only file system but for its
   *   private directory and `/tmp`, and a filter of dangerous system calls (Linux, bubblewrap).
   */
  readonly level: IsolationLevel
  /**
   * `'none'`: no network at all, for level `'full'`. The worker has to serve on `{{socket}}`, which only this process
   * can reach. `'host'`: the network of this machine, with every port that listens on it.
   *
   * @default 'host'
   */
  readonly network?: 'host' | 'none' | undefined
  /**
   * Paths of this machine that a worker sees beyond the system's own, for level `'full'`; a string is a path that may only
   * be read. Home directories, `/run`, `/mnt`, `/media`, `/tmp` and `/var/tmp` are hidden unless they are named here, and so
   * is the state directory whatever is named; of two paths the more specific one counts. Not `/`. The user of the worker has
   * to have the rights to get there.
   *
   * @default []
   */
  readonly binds?: readonly (string | BindOptions)[] | undefined
}

export interface BindOptions {
  /** Absolute path on this machine. */
  readonly source: string
  /** Absolute path where the worker sees it. @default the same */
  readonly target?: string | undefined
  /** @default 'read-only' */
  readonly access?: 'read-only' | 'read-write' | undefined
}

/** Ceilings of one worker with everything that it starts. Absent: none. */
export interface ResourceLimits {
  /** Memory, in bytes, swap included. Beyond it the worker is killed, with the reason `oom`. At least 1 MiB. */
  readonly memory?: number | undefined
  /** Processors' worth of time: `0.5` is half of one. At least 0.01. */
  readonly cpu?: number | undefined
  /** Processes and threads at a time. The few that isolation itself needs are added. */
  readonly pids?: number | undefined
  /** Open files of each process. */
  readonly files?: number | undefined
  /**
   * Bytes in the private directory, which lies in memory then (and counts as such), and as many again in each of `/tmp`,
   * `/dev/shm` and the directory of `{{socket}}`: nothing that the worker may write to is on disk, read-write binds apart.
   * For level `'full'`. At least 4 KiB. As root, this process needs CAP_SYS_PTRACE for it.
   */
  readonly disk?: number | undefined
}

/** A path that does not depend on where a process is. */
export const absolutePath = z
  .string()
  .refine((path) => isAbsolute(path) && !path.includes('\0'), 'an absolute path without NUL characters')
const count = (expected: string) => z.number(expected).int(expected).min(1, expected)
const bytes = (least: number) => {
  const expected = `a whole number of bytes, at least ${least}`
  return z.number(expected).int(expected).min(least, expected)
}

const bind = z
  .strictObject({
    source: absolutePath,
    target: absolutePath.optional(),
    access: z.enum(['read-only', 'read-write']).default('read-only'),
  })
  .transform(({ source, target = source, access }) => ({ source, target, access }))

export const isolationLevels = ['none', 'group', 'namespaces', 'full'] as const satisfies readonly IsolationLevel[]

const level = z.enum(isolationLevels)

export const isolationOptions = z
  .union([
    level.transform((name) => ({ level: name, network: 'host' as const, binds: [] as Bind[] })),
    z.strictObject({
      level,
      network: z.enum(['host', 'none']).default('host'),
      binds: z.array(z.union([absolutePath.transform((source): Bind => readOnly(source)), bind])).default([]),
    }),
  ])
  .superRefine((value, context) => {
    if (value.level === 'full') return
    const needsFull = (path: string, input: unknown) =>
      context.addIssue({ code: 'custom', path: [path], message: 'level "full" for this option', input })
    if (value.network === 'none') needsFull('network', value.network)
    if (value.binds.length > 0) needsFull('binds', value.binds)
  })
  .superRefine(({ binds }, context) => {
    const targets = binds.map(({ target }) => resolve(target))
    if (targets.includes('/') || binds.some(({ source }) => resolve(source) === '/')) {
      const message = 'paths other than "/", which is read-only as it is: name what is hidden of it'
      context.addIssue({ code: 'custom', path: ['binds'], message, input: '/' })
    }
    const twice = targets.find((target, i) => targets.indexOf(target) !== i)
    if (twice === undefined) return
    context.addIssue({ code: 'custom', path: ['binds'], message: 'paths that are each given once', input: twice })
  })

export const resourceLimits = z.strictObject({
  memory: bytes(1024 ** 2).optional(),
  cpu: z.number('a number of processors, at least 0.01').min(0.01, 'a number of processors, at least 0.01').optional(),
  pids: count('a whole number of 1 or more').optional(),
  files: count('a whole number of 1 or more').optional(),
  disk: bytes(4096).optional(),
})

/** A {@link BindOptions} with everything filled in. */
export interface Bind {
  readonly source: string
  readonly target: string
  readonly access: 'read-only' | 'read-write'
}

export type IsolationSettings = z.output<typeof isolationOptions>
export type Limits = z.output<typeof resourceLimits>

function readOnly(source: string): Bind {
  return { source, target: source, access: 'read-only' }
}
