import type { InspectionEvent } from 'xstate'
import * as z from 'zod'
import type { PoolPolicy } from '../machines/pool-context.ts'
import type { LivenessPolicy, WorkerBackend } from './backend.ts'
import { systemClock, type Clock } from './clock.ts'
import type { PoolEvent } from './events.ts'
import { hostSampler, type HostObserver } from './host/observer.ts'
import type { WorkerInfo } from './lease.ts'
import type { PressureMarks } from './pressure.ts'
import type { TenantLimits } from './tenant-ledger.ts'
import type { WearMarks } from './wear.ts'
import { abortSignal, callback, count, duration, validate } from './validate.ts'

export interface PoolOptions {
  /** What a worker is and how it is started: {@link processWorker}, or a backend of your own. */
  readonly worker: WorkerBackend
  readonly size?: SizeOptions | undefined
  readonly session?: SessionOptions | undefined
  readonly recycle?: RecycleOptions | undefined
  readonly queue?: QueueOptions | undefined
  readonly tenant?: TenantOptions | undefined
  readonly restart?: RestartOptions | undefined
  readonly breaker?: BreakerOptions | undefined
  readonly pressure?: PressureOptions | undefined
  /** A listener for every event from the very start; more can be added with {@link Pool.on} once the pool runs. */
  readonly onEvent?: ((event: PoolEvent) => void) | undefined
  /** Receives XState's inspection events of the pool, its workers and its sessions. Costs several µs per event. */
  readonly inspect?: ((event: InspectionEvent) => void) | undefined
  /** Gives up starting when it aborts: what was started is stopped, and `createPool` rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined
  /** Kills what is still being stopped for {@link PoolOptions.signal} when it aborts, or what has been started until then. */
  readonly forceSignal?: AbortSignal | undefined
  /**
   * What looks at the CPU and the memory of the host, for `stats().host` and {@link PressureOptions}. `false`: nothing does.
   *
   * @default samples of every second
   */
  readonly host?: HostObserver | false | undefined
  /** The time to run on, for tests with a virtual clock. @default the system's */
  readonly clock?: Clock | undefined
}

export interface SizeOptions {
  /** Workers that are kept even when nobody needs them. `createPool` waits for them. @default 1 */
  readonly min?: number | undefined
  /** Most workers that exist at any time, starting and stopping ones included. @default 10 */
  readonly max?: number | undefined
  /** Spare idle workers kept ready beyond `min` and beyond those in use. `min + warm` may not exceed `max`. @default 0 */
  readonly warm?: number | undefined
  /** Most workers that start at the same time. @default 8 */
  readonly startConcurrency?: number | undefined
  /**
   * How long idle workers must have been more than `min + warm` before they are stopped, in ms. Looked at once per such
   * time, so a worker may stay for twice as long.
   *
   * @default 60_000
   */
  readonly shrinkAfter?: number | undefined
}

export interface SessionOptions {
  /**
   * How long a session without an open connection lives, in milliseconds. `0` ends it with its last connection, `false`
   * never ends it.
   *
   * @default 300_000
   */
  readonly idleTtl?: number | false | undefined
  /**
   * Age at which a session ends as soon as it has no open connection, in milliseconds. `0`: with its last one. `false`: no limit.
   *
   * @default false
   */
  readonly maxAge?: number | false | undefined
  /**
   * Age at which a session ends whether or not it has open connections, which get `grace`; in milliseconds, 1 or more. One
   * that is ending already keeps the deadline that it has. `false`: no limit.
   *
   * @default false
   */
  readonly maxLifetime?: number | false | undefined
  /**
   * What an idle session is, for `idleTtl`. `'connections'`: one without an open connection. `'bytes'`: also one whose open
   * connections have moved no byte for so long ({@link Lease.touch}): it ends between `idleTtl` and a tenth more after
   * the last, and its connections get `grace`. Not with an `idleTtl` of `0` or `false`.
   *
   * @default 'connections'
   */
  readonly idle?: 'connections' | 'bytes' | undefined
  /** What open connections get when their session is ended, in milliseconds, before they are cut. @default 5_000 */
  readonly grace?: number | undefined
  /**
   * What becomes of a worker whose session has ended: `false` stops it and starts a fresh one, so that nothing can
   * leak into another session; a {@link ResetHook} must succeed before it serves another session; `'dirty'` lets it
   * serve another session as it is.
   *
   * @default false
   */
  readonly reuse?: false | 'dirty' | ResetHook | undefined
  /**
   * Sessions that one process may serve, with `reuse`, before it is replaced by a fresh one: what leaks with each of them
   * goes with it. `false`: however many, and nothing else without `reuse`.
   *
   * @default false
   */
  readonly reuseLimit?: number | false | undefined
}

/**
 * When the process of a worker is replaced by a fresh one that serves as it should, beside {@link SessionOptions.reuseLimit}.
 * Never while it has a session: one that is leased, with `reuse`, is replaced after that.
 */
export interface RecycleOptions {
  /**
   * Age at which it is replaced, in milliseconds, 1 or more. Each worker takes its own, of the last fifth up to that, so that
   * those that were started together are not replaced together. `false`: however old.
   *
   * @default false
   */
  readonly age?: number | false | undefined
  /**
   * Bytes of memory, with everything that it started, above which it is replaced. It is measured every 5 to 10 seconds, and
   * may take more in between: what it can never take is `limits.memory` of {@link processWorker}. Needs a backend with
   * {@link WorkerBackend.memoryOf}, which that of `processWorker` has on Linux. `false`: however many.
   *
   * @default false
   */
  readonly memory?: number | false | undefined
}

export interface ResetHook {
  /**
   * Path that gets an HTTP `POST` on the worker, with any 2xx as success; or a function that resolves when the worker is
   * as new. When it fails the worker is stopped and replaced.
   */
  readonly reset: string | ((worker: WorkerInfo, signal: AbortSignal) => Promise<void>)
  /** Longest time it may take, in milliseconds. @default 10_000 */
  readonly timeout?: number | undefined
}

export interface QueueOptions {
  /** Sessions that may wait for a worker; more are refused with `QUEUE_FULL`. @default 1_000 */
  readonly limit?: number | undefined
  /** Longest wait, in milliseconds, before `ACQUIRE_TIMEOUT`. @default 30_000 */
  readonly timeout?: number | undefined
}

/** What one tenant may hold: see {@link AcquireOptions.tenant}. Sessions that are opened for nobody are not limited. */
export interface TenantOptions {
  /**
   * Sessions of one tenant, live and waiting ones together; more are refused with `TENANT_LIMIT`. 1 or more; `false`: no
   * limit.
   *
   * @default half of size.max, rounded up
   */
  readonly sessions?: number | false | undefined
  /**
   * Sessions of one tenant that may wait for a worker; more are refused with `TENANT_LIMIT`. 1 or more; `false`: no limit
   * but `queue.limit`.
   *
   * @default 100
   */
  readonly waiting?: number | false | undefined
}

/** How a worker that crashed while it served is started again in its slot. */
export interface RestartOptions {
  /** Restarts in a row, without a session served well in between, before the worker is replaced by a new one. @default 3 */
  readonly limit?: number | undefined
  /** Wait before the first restart, in milliseconds; doubles each time, with jitter. @default 100 */
  readonly minDelay?: number | undefined
  /** Longest wait, in milliseconds. @default 10_000 */
  readonly maxDelay?: number | undefined
}

/** When the pool stops starting workers because they keep failing. */
export interface BreakerOptions {
  /** Failures in a row, of starts and of workers that crashed before their first session, that open it. @default 3 */
  readonly failures?: number | undefined
  /** Time before one start is tried again, in milliseconds. @default 5_000 */
  readonly cooldown?: number | undefined
}

/**
 * When the host has too little left for new sessions. Live sessions are untouched, idle workers are not leased, and none is
 * started but for `size.min`.
 */
export interface PressureOptions {
  /**
   * Share of the memory in use, more than 0 to 1, from which on new sessions get no worker: of the machine's, or of the
   * cgroup's whose limit is nearest. `false`: whatever it is.
   *
   * @default false
   */
  readonly memory?: number | false | undefined
  /**
   * The same of the CPUs that this process may use, over the last seconds. `false`: whatever it is.
   *
   * @default false
   */
  readonly cpu?: number | false | undefined
  /**
   * What each has to fall below before new sessions get workers again, as a part of its mark, more than 0 to 1: with 0.9 and a
   * mark of 0.8, 0.72. Keeps the pool from going back and forth.
   *
   * @default 0.9
   */
  readonly resume?: number | undefined
  /**
   * What becomes of new sessions meanwhile: `'wait'` puts them in the queue, `'refuse'` refuses them with `HOST_PRESSURE`.
   *
   * @default 'wait'
   */
  readonly action?: 'wait' | 'refuse' | undefined
}

/** {@link PoolOptions} with everything filled in, as the parts of the runtime read it. */
export interface PoolSettings {
  readonly backend: WorkerBackend
  readonly policy: PoolPolicy
  readonly liveness: Required<LivenessPolicy>
  readonly recycle: WearMarks
  readonly reset: ResetHook['reset'] | undefined
  readonly idleTtl: number | false
  readonly maxAge: number | false
  readonly maxLifetime: number | false
  readonly idle: 'connections' | 'bytes'
  readonly acquireTimeout: number
  readonly tenantLimits: TenantLimits
  readonly pressureMarks: PressureMarks
  readonly host: HostObserver | undefined
  readonly onEvent: ((event: PoolEvent) => void) | undefined
  readonly inspect: ((event: InspectionEvent) => void) | undefined
  readonly signal: AbortSignal | undefined
  readonly forceSignal: AbortSignal | undefined
  readonly clock: Clock
}

const positive = z
  .number('a whole number of 1 or more')
  .int('a whole number of 1 or more')
  .min(1, 'a whole number of 1 or more')
const orNever = z.union([duration, z.literal(false)])
const someTime = z.union([duration.min(1, 'a duration of at least 1 ms'), z.literal(false)])
const SHARE = 'a share of more than 0 to 1'
const share = z.number(SHARE).gt(0, SHARE).max(1, SHARE)
const orUnlimited = z.union([positive, z.literal(false)])

const resetHook = z.strictObject({
  reset: z.union([
    z.string().startsWith('/', 'a path that begins with "/"'),
    callback<Exclude<ResetHook['reset'], string>>(),
  ]),
  timeout: duration.default(10_000),
})

const backend = z.looseObject({
  launch: callback('a function: see processWorker() or the WorkerBackend contract'),
  memoryOf: callback('a function: see the WorkerBackend contract').optional(),
  startTimeout: duration.default(30_000),
  startAttempts: positive.default(3),
  stopGrace: duration.default(5_000),
  liveness: z
    .strictObject({
      interval: duration.default(10_000),
      timeout: duration.default(5_000),
      failures: positive.default(3),
    })
    .prefault({}),
})

const size = z
  .strictObject({
    min: count.default(1),
    max: positive.default(10),
    warm: count.default(0),
    startConcurrency: positive.default(8),
    shrinkAfter: duration.default(60_000),
  })
  .refine(({ min, max }) => min <= max, { path: ['min'], error: 'a number not above size.max' })
  .refine(({ min, max, warm }) => min > max || min + warm <= max, {
    path: ['warm'],
    error: 'a number that fits: size.min + size.warm may not exceed size.max',
  })

const fields = z.strictObject({
  worker: backend,
  size: size.prefault({}),
  session: z
    .strictObject({
      idleTtl: orNever.default(300_000),
      maxAge: orNever.default(false),
      maxLifetime: someTime.default(false),
      idle: z.enum(['connections', 'bytes']).default('connections'),
      grace: duration.default(5_000),
      reuse: z.union([z.literal(false), z.literal('dirty'), resetHook]).default(false),
      reuseLimit: orUnlimited.default(false),
    })
    .refine(({ idle, idleTtl }) => idle !== 'bytes' || (idleTtl !== 0 && idleTtl !== false), {
      path: ['idleTtl'],
      error: "a duration above 0 with session.idle 'bytes'",
    })
    .refine(({ reuse, reuseLimit }) => reuse !== false || reuseLimit === false, {
      path: ['reuseLimit'],
      error: 'false without session.reuse: a process that is not reused serves one session',
    })
    .prefault({}),
  recycle: z
    .strictObject({
      age: someTime.default(false),
      memory: orUnlimited.default(false),
    })
    .prefault({}),
  queue: z.strictObject({ limit: count.default(1_000), timeout: duration.default(30_000) }).prefault({}),
  tenant: z.strictObject({ sessions: orUnlimited.optional(), waiting: orUnlimited.default(100) }).prefault({}),
  restart: z
    .strictObject({ limit: count.default(3), minDelay: duration.default(100), maxDelay: duration.default(10_000) })
    .refine(({ minDelay, maxDelay }) => minDelay <= maxDelay, {
      path: ['minDelay'],
      error: 'a duration not above restart.maxDelay',
    })
    .prefault({}),
  breaker: z.strictObject({ failures: positive.default(3), cooldown: duration.default(5_000) }).prefault({}),
  pressure: z
    .strictObject({
      memory: z.union([share, z.literal(false)]).default(false),
      cpu: z.union([share, z.literal(false)]).default(false),
      resume: share.default(0.9),
      action: z.enum(['wait', 'refuse']).default('wait'),
    })
    .prefault({}),
  onEvent: callback<(event: PoolEvent) => void>().optional(),
  inspect: callback<(event: InspectionEvent) => void>().optional(),
  signal: abortSignal.optional(),
  forceSignal: abortSignal.optional(),
  host: z
    .union([
      z.literal(false),
      z.custom<HostObserver>(
        (host) => typeof host === 'object' && host !== null && 'observe' in host,
        'a HostObserver',
      ),
    ])
    .optional(),
  clock: z
    .custom<Clock>((clock) => typeof clock === 'object' && clock !== null && 'now' in clock, 'a Clock')
    .optional(),
})

const schema = fields.refine(({ worker, recycle }) => recycle.memory === false || worker.memoryOf !== undefined, {
  path: ['recycle', 'memory'],
  error: 'false with a backend that cannot measure its workers (memoryOf; processWorker can on Linux)',
})

/** Fills in the defaults. @throws `INVALID_OPTION` */
export function resolveOptions(options: PoolOptions): PoolSettings {
  const { worker, size, session, recycle, queue, tenant, restart, breaker, pressure, ...rest } = validate(
    schema,
    options,
  )
  const hook = typeof session.reuse === 'object' ? session.reuse : undefined
  return {
    // The object itself and not the copy that validation made: a backend may be an instance of a class.
    backend: options.worker,
    policy: {
      size,
      queueLimit: queue.limit,
      breaker,
      pressure: pressure.action,
      worker: {
        startTimeout: worker.startTimeout,
        startAttempts: worker.startAttempts,
        stopGrace: worker.stopGrace,
        reuse: hook ? 'reset' : session.reuse === 'dirty' ? 'dirty' : 'never',
        resetTimeout: hook?.timeout ?? 0,
        recycleSessions: session.reuseLimit === false ? 0 : session.reuseLimit,
        sessionGrace: session.grace,
        restartLimit: restart.limit,
        restartMinDelay: restart.minDelay,
        restartMaxDelay: restart.maxDelay,
      },
    },
    liveness: worker.liveness,
    recycle,
    reset: hook?.reset,
    idleTtl: session.idleTtl,
    maxAge: session.maxAge,
    maxLifetime: session.maxLifetime,
    idle: session.idle,
    acquireTimeout: queue.timeout,
    tenantLimits: { sessions: tenant.sessions ?? Math.ceil(size.max / 2), waiting: tenant.waiting },
    pressureMarks: pressure,
    host: rest.host === false ? undefined : (rest.host ?? hostSampler),
    onEvent: rest.onEvent,
    inspect: rest.inspect,
    signal: rest.signal,
    forceSignal: rest.forceSignal,
    clock: rest.clock ?? systemClock,
  }
}
