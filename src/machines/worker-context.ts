import type { SessionKey, StatusFact, WorkerAddress, WorkerOutput, WorkerStatus } from './events.ts'
import type { Failure, ProcessExit } from './failure.ts'
import { hash } from './hash.ts'

/** The rules a worker lives by. All times in milliseconds. */
export interface WorkerPolicy {
  /** Longest time from the start of the process until it is ready. */
  readonly startTimeout: number
  /** How often one start is tried when the process exits before it is ready and a retry may help. */
  readonly startAttempts: number
  /** Time between the polite stop and the kill. */
  readonly stopGrace: number
  /** What follows a session: stop the worker, reset it for the next session, or lease it again as it is. */
  readonly reuse: 'never' | 'reset' | 'dirty'
  readonly resetTimeout: number
  /** Sessions after which a process that would be leased again is replaced; `0`: however many. */
  readonly recycleSessions: number
  /** What open connections get when their session is ended. */
  readonly sessionGrace: number
  /** Restarts in a row, without a session served to its end in between, before the worker is given up. */
  readonly restartLimit: number
  readonly restartMinDelay: number
  readonly restartMaxDelay: number
}

export interface WorkerInput {
  readonly id: string
  readonly policy: WorkerPolicy
}

export interface WorkerContext extends WorkerInput {
  /** Processes that were ready to serve in this slot before the present one. */
  readonly incarnation: number
  /** Which try of the present start this is, from 1. */
  readonly attempt: number
  /** Restarts in a row. */
  readonly restarts: number
  /** Backoff before the next restart. */
  readonly restartDelay: number
  readonly process: { readonly pid: number | undefined; readonly address: WorkerAddress } | null
  /** The session that is bound to the worker now. */
  readonly lease: SessionKey | null
  /** Sessions that the present process was bound to. */
  readonly sessions: number
  /** First cause of the present failure. */
  readonly failure: Failure | null
  readonly exit: ProcessExit | null
  /** The status that was last reported: what the pool counts this worker under. */
  readonly reported: WorkerStatus
}

/** Input of the actors that act on the worker's process. */
export interface ProcessInput {
  readonly workerId: string
  readonly incarnation: number
  readonly attempt: number
}

/** Input of the actor `reset`: also which session has just ended. */
export type ResetInput = ProcessInput & { readonly process: WorkerContext['process'] }

export const processInput = ({ context }: { context: WorkerContext }): ProcessInput => ({
  workerId: context.id,
  incarnation: context.incarnation,
  attempt: context.attempt,
})

/** A status that a worker reports; its death is its output. */
export type ReportedStatus = Exclude<WorkerStatus, 'dead'>

/** Whether the present process would serve again, and has served as many sessions as one may. */
export function hasServedAll({ policy: { reuse, recycleSessions }, sessions }: WorkerContext): boolean {
  return reuse !== 'never' && recycleSessions > 0 && sessions >= recycleSessions
}

/**
 * Exponential backoff with equal jitter: half of the delay is fixed, half varies. The variation comes from `seed` and not
 * from chance, so that the machine stays pure while workers that crash together do not start together.
 */
export function backoff(policy: WorkerPolicy, restarts: number, seed: string): number {
  const delay = Math.min(policy.restartMaxDelay, policy.restartMinDelay * 2 ** restarts)
  return Math.round(delay / 2 + (delay / 2) * hash(`${seed}:${restarts}`))
}

/** What a worker tells when it enters a status. */
export function statusFact(context: WorkerContext, status: ReportedStatus): StatusFact {
  const { id: workerId, reported: from, process } = context
  switch (status) {
    case 'spawning':
      return { type: 'worker.spawning', workerId, from, incarnation: context.incarnation }
    case 'healthy':
      return { type: 'worker.ready', workerId, from, pid: process?.pid, address: process?.address }
    case 'leased':
      return { type: 'worker.leased', workerId, from, ...(context.lease ?? { sessionId: '', token: 0 }) }
    case 'resetting':
      return { type: 'worker.resetting', workerId, from }
    case 'draining':
      return { type: 'worker.draining', workerId, from, failure: context.failure }
    case 'restarting':
      return { type: 'worker.restarting', workerId, from, attempt: context.restarts, delay: context.restartDelay }
  }
}

export function workerOutput({ id, reported, exit, failure }: WorkerContext): WorkerOutput {
  return {
    workerId: id,
    from: reported,
    reason: failure ? 'failed' : 'stopped',
    exitCode: exit?.exitCode ?? null,
    signal: exit?.signal ?? null,
    failure,
  }
}
