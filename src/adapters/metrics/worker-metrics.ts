import type { Registry } from 'prom-client'
import type { FailureCode, PoolEvent, SessionEndReason, WearCause } from '../../index.ts'
import type { PromClient } from './prom-client.ts'

/** What becomes of workers and sessions, counted from the pool's events. */
export class WorkerMetrics {
  readonly #starts
  readonly #crashes
  readonly #worn
  readonly #started
  readonly #ended
  /** When the workers that are starting began to: as many as start at a time. */
  readonly #startedAt = new Map<string, number>()

  constructor(prom: PromClient, registers: Registry[]) {
    this.#starts = new prom.Histogram({
      name: 'corral_worker_start_duration_seconds',
      help: 'Time from the launch of a worker until it was ready, or had failed to become so.',
      labelNames: ['outcome'],
      buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
      registers,
    })
    this.#crashes = new prom.Counter({
      name: 'corral_worker_crashes_total',
      help: 'Workers that failed to start, died, or were given up.',
      labelNames: ['reason'],
      registers,
    })
    this.#worn = new prom.Counter({
      name: 'corral_workers_worn_total',
      help: 'Workers that were to be replaced though they served as they should.',
      labelNames: ['cause'],
      registers,
    })
    this.#started = new prom.Counter({
      name: 'corral_sessions_started_total',
      help: 'Sessions that a worker was bound to.',
      registers,
    })
    this.#ended = new prom.Counter({
      name: 'corral_sessions_ended_total',
      help: 'Sessions that are over.',
      labelNames: ['reason'],
      registers,
    })
    // A series that appears with its first event hides that event from rate().
    for (const reason of Object.values(crashReasons)) this.#crashes.inc({ reason }, 0)
    for (const cause of wearCauses) this.#worn.inc({ cause }, 0)
    for (const reason of Object.values(endReasons)) this.#ended.inc({ reason }, 0)
    for (const outcome of ['ready', 'failed']) this.#starts.zero({ outcome })
  }

  observe(event: PoolEvent): void {
    switch (event.type) {
      case 'worker.spawning':
        this.#startedAt.set(event.workerId, performance.now())
        break
      case 'worker.ready':
        this.#onStart(event.workerId, 'ready')
        break
      case 'worker.crashed':
        this.#onStart(event.workerId, 'failed')
        this.#crashes.inc({ reason: crashReasons[event.failure.code] })
        break
      case 'worker.draining':
        // Of the other failures a crash is told, once the process is gone; this one is no crash to the pool: no restart, no breaker.
        if (event.failure?.code === 'WORKER_RESET_FAILED')
          this.#crashes.inc({ reason: crashReasons[event.failure.code] })
        break
      case 'worker.worn':
        this.#worn.inc({ cause: event.cause })
        break
      case 'worker.dead':
        // Nobody wanted it any more: that tells nothing of how long a start takes.
        this.#startedAt.delete(event.workerId)
        break
      case 'session.started':
        this.#started.inc()
        break
      case 'session.ended':
        this.#ended.inc({ reason: endReasons[event.reason] })
        break
    }
  }

  #onStart(workerId: string, outcome: 'ready' | 'failed'): void {
    const startedAt = this.#startedAt.get(workerId)
    // It crashed while it served, or is back from a reset.
    if (startedAt === undefined) return
    this.#startedAt.delete(workerId)
    this.#starts.observe({ outcome }, (performance.now() - startedAt) / 1000)
  }
}

const crashReasons: Readonly<Record<FailureCode, string>> = {
  WORKER_START_FAILED: 'start_failed',
  WORKER_START_TIMEOUT: 'start_timeout',
  WORKER_CRASHED: 'crashed',
  WORKER_UNHEALTHY: 'unhealthy',
  WORKER_RESET_FAILED: 'reset_failed',
}

const wearCauses: readonly WearCause[] = ['sessions', 'age', 'memory']

const endReasons: Readonly<Record<SessionEndReason, string>> = {
  released: 'released',
  expired: 'expired',
  'max-age': 'max_age',
  lost: 'lost',
  drained: 'drained',
}
