/** Bounds on the number of workers. */
export interface SizeLimits {
  /** Workers kept even when nobody needs them. */
  readonly min: number
  /** Most processes at any time, starting and stopping ones included. */
  readonly max: number
  /** Spare idle workers beyond `min` and beyond those in use. */
  readonly warm: number
  /** Most workers that start at the same time. */
  readonly startConcurrency: number
}

/** The pool counted: what {@link plan} decides on. */
export interface Census {
  /** Slots in use: every worker that has a process or will have one again. */
  readonly slots: number
  /** Workers that can be leased now. */
  readonly idle: number
  readonly spawning: number
  readonly resetting: number
  /** Workers that wait out a backoff before they start again. */
  readonly restarting: number
  /** Workers whose process is being stopped or killed. */
  readonly draining: number
  /** Sessions that wait for a worker. */
  readonly waiting: number
}

export interface Plan {
  /** Workers to start now. */
  readonly start: number
  /** Idle workers that nobody needs; stopping them is a matter of time. */
  readonly surplus: number
}

/**
 * How many workers to start, and how many idle ones could go.
 *
 * The pool aims at `max(min, busy + waiting) + warm` workers, never above `max`. A worker in its backoff counts towards
 * that aim, so that a crash loop is not sped up by replacements; but no waiting session has to wait for a backoff when
 * there is room to start another worker.
 */
export function plan(limits: SizeLimits, census: Census): Plan {
  const { slots, idle, spawning, resetting, restarting, draining, waiting } = census
  const usable = slots - draining
  const coming = idle + spawning + resetting
  const busy = usable - coming - restarting
  const target = Math.min(limits.max, Math.max(limits.min, busy + waiting) + limits.warm)
  const wanted = Math.max(target - usable, waiting - coming)
  return {
    start: Math.max(0, Math.min(wanted, limits.max - slots, limits.startConcurrency - spawning)),
    surplus: Math.max(0, Math.min(idle - waiting, usable - target)),
  }
}
