import { constants } from 'node:os'
import * as z from 'zod'
import type { WorkerAddress } from '../backend.ts'
import { pathFromHere } from './follow.ts'
import { absolutePath, isolationOptions, resourceLimits } from './isolation/options.ts'
import type { IsolationLevel, IsolationOptions, ResourceLimits } from './isolation/options.ts'
import { callback, duration } from '../validate.ts'

export interface ProcessWorkerOptions {
  /** Program to start: a path, or a name to be looked up in `PATH`. No shell is involved. */
  readonly command: string
  /**
   * Its arguments. `{{port}}` (also `{{.Port}}`), `{{socket}}`, `{{id}}` and `{{dir}}` stand for the TCP port on 127.0.0.1
   * and the path of the unix socket that the worker has to listen on, for the worker's id, and for its private directory.
   * With `{{socket}}` anywhere in `args` or `env` the worker serves on that socket, otherwise on the port.
   *
   * @default []
   */
  readonly args?: readonly string[] | undefined
  /**
   * Variables for the process, with the same placeholders, on top of a short list taken from the parent (`PATH`, `HOME`,
   * the locale, …; see docs/workers.md); nothing else of the parent's environment is passed. `undefined` removes a
   * variable. `PORT` is set to the port, unless given here.
   *
   * @default {}
   */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined
  /**
   * Working directory of the process, which with level `'full'` it may read. A relative path is one from the parent's, as that is
   * when these options are given.
   *
   * @default the parent's, or the private one where isolation hides that
   */
  readonly cwd?: string | undefined
  /**
   * How far the worker is kept from the machine and from other workers: a {@link IsolationLevel}, or that and more. Every
   * level but `'none'` gives it a private directory, which is its `HOME` and is removed with it.
   *
   * @default 'group'
   */
  readonly isolation?: IsolationLevel | IsolationOptions | undefined
  /** Ceilings of the worker with everything that it starts. @default none */
  readonly limits?: ResourceLimits | undefined
  /**
   * When this machine or user lacks what `isolation` or `limits` ask for: `'fail'` makes `createPool` reject with
   * `SANDBOX_UNAVAILABLE`; `'degrade'` goes on with what there is, warns (`CorralWarning`) and tells in `pool.stats()`.
   *
   * @default 'fail'
   */
  readonly onUnavailable?: 'fail' | 'degrade' | undefined
  /**
   * Absolute path of a directory in which what the workers hold is written down, so that the next start can end and remove
   * what a supervisor left that was killed. It has to be for this supervisor alone, and short: the paths of unix sockets
   * are. Without it, a private one is made among the temporary files, where the next start of this user's finds it.
   */
  readonly stateDirectory?: string | undefined
  /** When the worker counts as ready and how it is watched after that. @default a TCP or unix-socket connect */
  readonly health?: ProcessHealthOptions | undefined
  /** How the worker is asked to stop. */
  readonly stop?: ProcessStopOptions | undefined
  /**
   * Gets every line that the process writes, without its line break, cut after 2 KiB. Called for the unfinished last line
   * too, when the process ends. What it throws is reported once as a process warning.
   */
  readonly onOutput?: ((line: string, source: OutputSource) => void) | undefined
}

export interface OutputSource {
  readonly stream: 'stdout' | 'stderr'
  readonly workerId: string
  readonly pid: number
}

/** At most one of `path`, `line` and `check`; with none of them the worker is healthy when it accepts a connection. */
export interface ProcessHealthOptions {
  /** Path, query included, that gets an HTTP `GET`. Status 200 to 399 is healthy; redirects are not followed. */
  readonly path?: string | undefined
  /**
   * Text that a line on stdout contains, or a pattern that it matches, when the worker is ready. The line need not be
   * finished, so a prompt will do. Says nothing about later: afterwards only the process's exit counts.
   */
  readonly line?: string | RegExp | undefined
  /** Resolves when the worker is healthy, rejects when it is not. Give up what is under way when `signal` aborts. */
  readonly check?: ((worker: HealthCheckTarget) => Promise<void>) | undefined
  /**
   * Who may listen on the worker's TCP port. `'own'`: only the worker's process and its descendants; anybody else there
   * is a port collision, and the start is tried again on another port (Linux; elsewhere nobody is refused). `'any'`: for
   * commands that have another service open the port for them.
   *
   * @default 'own'
   */
  readonly listener?: 'own' | 'any' | undefined
  /** Longest time until the worker is ready, in milliseconds. @default 30_000 */
  readonly startTimeout?: number | undefined
  /** How often one start is tried when the process exits before it is ready, each time on a new port. @default 3 */
  readonly startAttempts?: number | undefined
  /** Time between two probes of a ready worker, in milliseconds. `0` never probes. @default 10_000 */
  readonly interval?: number | undefined
  /** Time after which one probe counts as failed, in milliseconds. @default 5_000 */
  readonly timeout?: number | undefined
  /** Probes in a row that must fail before a ready worker is given up and killed. @default 3 */
  readonly failures?: number | undefined
}

export interface HealthCheckTarget {
  readonly address: WorkerAddress
  readonly pid: number
  readonly workerId: string
  /** Aborts when the probe has timed out or nobody waits for it any more. */
  readonly signal: AbortSignal
}

export interface ProcessStopOptions {
  /** Signal that asks the worker to stop. @default 'SIGTERM' */
  readonly signal?: NodeJS.Signals | undefined
  /**
   * Who gets it: the whole process `'group'`, as with Ctrl-C in a terminal, or the `'leader'` alone, for programs that
   * stop their children themselves. What is left when the leader has exited is killed either way.
   *
   * @default 'group'
   */
  readonly target?: 'group' | 'leader' | undefined
  /** Time between that signal and SIGKILL to the group, in milliseconds. `0` kills at once. @default 5_000 */
  readonly grace?: number | undefined
}

const POSITIVE = 'a whole number of 1 or more'
const positive = z.number(POSITIVE).int(POSITIVE).min(1, POSITIVE)
const limit = duration.min(1, 'a duration of at least 1 ms')
const noNul = (name: string) => z.string().refine((text) => !text.includes('\0'), `${name} without NUL characters`)

const path = z.string().regex(/^\/[\u0021-\u007E]*$/, 'a path that starts with "/", percent-encoded where needed')
const line = z.union([z.string().min(1), z.instanceof(RegExp, { error: 'a RegExp' })])
const signal = z.custom<NodeJS.Signals>(
  (value) => typeof value === 'string' && value in constants.signals,
  'the name of a signal, such as "SIGTERM"',
)
const variables = z.record(z.string().regex(/^[^=\0]+$/, 'a variable name'), noNul('text').optional())

function toAbsolute(path: string, context: z.RefinementCtx): string {
  try {
    return pathFromHere(path)
  } catch {
    const message = 'an absolute path, as the working directory of this process has been removed'
    context.addIssue({ code: 'custom', message, input: path })
    return z.NEVER
  }
}

const health = z
  .strictObject({
    path: path.optional(),
    line: line.optional(),
    check: callback<NonNullable<ProcessHealthOptions['check']>>().optional(),
    listener: z.enum(['own', 'any']).default('own'),
    startTimeout: limit.default(30_000),
    startAttempts: positive.default(3),
    interval: duration.default(10_000),
    timeout: limit.default(5_000),
    failures: positive.default(3),
  })
  .superRefine((value, context) => {
    const [kind, other] = (['path', 'line', 'check'] as const).filter((key) => value[key] !== undefined)
    if (other === undefined) return
    context.addIssue({ code: 'custom', path: [other], message: `nothing beside "health.${kind}"`, input: value })
  })

/** Checks and completes {@link ProcessWorkerOptions}. */
export const processWorkerOptions = z
  .strictObject({
    command: noNul('a command').min(1, 'the command to start'),
    args: z.array(noNul('text')).readonly().default([]),
    env: variables.default({}),
    cwd: noNul('a path').min(1, 'a directory').transform(toAbsolute).optional(),
    isolation: isolationOptions.prefault('group'),
    limits: resourceLimits.prefault({}),
    stateDirectory: absolutePath.optional(),
    onUnavailable: z.enum(['fail', 'degrade']).default('fail'),
    health: health.prefault({}),
    stop: z
      .strictObject({
        signal: signal.default('SIGTERM'),
        target: z.enum(['group', 'leader']).default('group'),
        grace: duration.default(5_000),
      })
      .prefault({}),
    onOutput: callback<NonNullable<ProcessWorkerOptions['onOutput']>>().optional(),
  })
  .refine(({ isolation, limits }) => limits.disk === undefined || isolation.level === 'full', {
    path: ['limits', 'disk'],
    error: 'isolation level "full" for this option',
  })

export type ProcessSettings = z.output<typeof processWorkerOptions>
