import type { WorkerAddress } from '../machines/events.ts'

export type { WorkerAddress }

/**
 * The contract between the pool and whatever runs the workers. {@link processWorker} implements it with local
 * processes; implement it yourself to run workers in containers, microVMs or on other hosts.
 *
 * The pool decides when a worker starts, is probed, stops and is replaced; a backend only carries that out.
 */
export interface WorkerBackend {
  /**
   * Longest time from `launch` until `ready` resolves, in milliseconds. After it the worker is killed and its start
   * counts as failed with `WORKER_START_TIMEOUT`.
   *
   * @default 30_000
   */
  readonly startTimeout?: number
  /**
   * How often one start is tried when the worker exits before it is ready and says that a retry may help
   * ({@link WorkerExit.retry}). `1` never retries.
   *
   * @default 3
   */
  readonly startAttempts?: number
  /**
   * Time between the polite `stop` and `kill`, in milliseconds. `0` kills at once.
   *
   * @default 5_000
   */
  readonly stopGrace?: number
  /** How a worker that is up is watched. Has no effect when instances have no `check`. */
  readonly liveness?: LivenessPolicy
  /**
   * Starts one worker. Resolves as soon as the worker exists; `ready` tells when it can serve. Rejects when it cannot
   * be started at all, which is not retried. When `context.signal` aborts, the worker is no longer wanted: reject, or
   * resolve and let the pool kill what came of it. A rejection must leave nothing behind.
   */
  launch(context: LaunchContext): Promise<WorkerInstance>
  /**
   * Prepares what its workers share. A pool calls it before its first launch; several pools may. Rejects when workers
   * cannot be started as they should be: so does `createPool` then. A rejection must leave nothing behind.
   *
   * @param signal aborts when the pool is no longer wanted: reject, or resolve and let the pool close it.
   */
  open?(signal?: AbortSignal): Promise<void>
  /** Gives that back. A pool that has opened it calls it once nothing of its workers is left. Must not reject. */
  close?(): Promise<void>
  /**
   * Bytes of memory that a worker takes now, with everything that it started, for {@link RecycleOptions.memory}: which is refused
   * where there is no such method. Asked every 5 to 10 seconds. Rejects when it cannot be told, which is a warning.
   */
  memoryOf?(worker: WorkerInstance): Promise<number>
  /** What the workers get, for `pool.stats()`. */
  status?(): BackendStatus | undefined
}

export interface BackendStatus {
  /** Level of isolation in effect. */
  readonly level: string
  /** What was asked for and is not to be had on this machine: only with an option that allows for it. */
  readonly missing: readonly string[]
  /** Ids of processes of workers that could not be killed and may still be there; absent: of none. */
  readonly left?: readonly number[] | undefined
}

export interface LaunchContext {
  /** The worker's id, `w1`, `w2`, …: unique in the pool and never reused. Safe in file names and on command lines. */
  readonly workerId: string
  /** Aborts when the start is no longer wanted. */
  readonly signal: AbortSignal
}

/** One started worker. */
export interface WorkerInstance {
  /** Process id, when the worker is a local process. */
  readonly pid?: number
  /** Where the worker serves. */
  readonly address: WorkerAddress
  /**
   * Resolves once the worker and everything it started are gone, whoever ended it. Never rejects. Until then the
   * worker counts against `size.max`, and `pool.close()` waits for it. So it has to resolve, some time after
   * `kill`, also where that could not end the worker, with a `message` that says so: the pool waits for nothing else, and without limit.
   */
  readonly exited: Promise<WorkerExit>
  /** Resolves when the worker can serve, rejects when it never will. `signal` aborts when nobody waits any more. */
  ready(signal: AbortSignal): Promise<void>
  /** One liveness probe: resolves when the worker answers, rejects when it does not. Absent: only its exit counts. */
  check?(signal: AbortSignal): Promise<void>
  /** Asks the worker to stop. Must not throw; may be called more than once. */
  stop(): void
  /** Ends the worker and everything it started, now: `exited` resolves after it. Must not throw; may be called more than once. */
  kill(): void
  /** The last lines that the worker wrote, oldest first, for error messages. */
  output?(): readonly string[]
}

export interface WorkerExit {
  /** Exit status, `null` when a signal ended the worker. */
  readonly exitCode: number | null
  /** Signal that ended the worker, `null` when none did. */
  readonly signal: string | null
  /** What happened, when exit status and signal do not say it. */
  readonly message?: string
  /** `oom`: the worker was killed for want of memory, which exit status and signal do not tell. */
  readonly cause?: 'oom'
  /** Whether a start that ended like this may succeed when tried again, for example on another port. */
  readonly retry?: boolean
}

export interface LivenessPolicy {
  /** Time between two probes, in milliseconds. `0` never probes. @default 10_000 */
  readonly interval?: number
  /** Time after which one probe counts as failed, in milliseconds. @default 5_000 */
  readonly timeout?: number
  /** Probes in a row that must fail before the worker is given up and killed. @default 3 */
  readonly failures?: number
}
