import type { Failure } from '../machines/failure.ts'

/** Every code that a {@link CorralError} can carry. Codes are stable; messages are not. */
export type ErrorCode =
  | 'INVALID_OPTION'
  | 'PEER_MISSING'
  | 'WORKER_START_FAILED'
  | 'WORKER_START_TIMEOUT'
  | 'ACQUIRE_TIMEOUT'
  | 'QUEUE_FULL'
  | 'TENANT_LIMIT'
  | 'HOST_PRESSURE'
  | 'SESSION_LOST'
  | 'SESSION_ENDED'
  | 'POOL_DRAINING'
  | 'POOL_CLOSED'
  | 'SANDBOX_UNAVAILABLE'
  | 'STATE_DIRECTORY_IN_USE'

const brand = Symbol.for('corral.error')

/**
 * Base class of everything Corral throws or rejects with. Match on `code`, which is stable, rather than on the
 * message; use {@link isCorralError} rather than `instanceof` where two copies of the package may be loaded.
 */
export class CorralError extends Error {
  readonly code: ErrorCode
  readonly [brand] = true

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
    this.code = code
  }
}

/** Whether `value` is an error of Corral's, of any copy or version of the package. */
export function isCorralError(value: unknown): value is CorralError {
  return typeof value === 'object' && value !== null && (value as { [brand]?: unknown })[brand] === true
}

/** `INVALID_OPTION`: an option is unknown, of the wrong type or out of range. Names it, what was expected, what was got. */
export class InvalidOptionError extends CorralError {
  /** Path of the option, such as `size.max`. */
  readonly option: string

  constructor(option: string, expected: string, got: string) {
    super('INVALID_OPTION', `Invalid option "${option}": expected ${expected}, got ${got}`)
    this.option = option
  }
}

/** `PEER_MISSING`: a package that one entry of Corral's needs is not installed beside it. */
export class PeerMissingError extends CorralError {
  /** Name of the package. */
  readonly peer: string

  constructor(peer: string, entry: string, options?: ErrorOptions) {
    super('PEER_MISSING', `${entry} needs the package ${peer}, which is not installed: npm install ${peer}`, options)
    this.peer = peer
  }
}

/** `WORKER_START_FAILED` or `WORKER_START_TIMEOUT`: a worker, or the helper that starts them, ended, or stayed silent, before it was ready. */
export class WorkerStartError extends CorralError {
  readonly exitCode: number | null
  readonly signal: string | null
  /** The last lines that the worker wrote, oldest first. */
  readonly output: readonly string[]

  constructor(failure: Failure) {
    const code = failure.code === 'WORKER_START_TIMEOUT' ? failure.code : 'WORKER_START_FAILED'
    super(code, withOutput(failure.message, failure.output))
    this.exitCode = failure.exitCode
    this.signal = failure.signal
    this.output = failure.output
  }
}

/** `ACQUIRE_TIMEOUT`: no worker became free within the wait time. */
export class AcquireTimeoutError extends CorralError {
  constructor(sessionId: string, timeout: number) {
    super('ACQUIRE_TIMEOUT', `No worker was free for session ${quote(sessionId)} within ${timeout} ms`)
  }
}

/** `QUEUE_FULL`: as many sessions wait for a worker as are allowed to. */
export class QueueFullError extends CorralError {
  constructor(sessionId: string, limit: number) {
    super('QUEUE_FULL', `Session ${quote(sessionId)} was refused: ${limit} sessions wait already (queue.limit)`)
  }
}

/** `TENANT_LIMIT`: the tenant has as many sessions, or as many that wait, as one tenant may. */
export class TenantLimitError extends CorralError {
  readonly tenant: string

  constructor(tenant: string, kind: 'sessions' | 'waiting', limit: number) {
    const held = kind === 'sessions' ? `has ${limit} sessions or waits for them` : `waits for ${limit} sessions`
    super('TENANT_LIMIT', `Tenant ${quote(tenant)} was refused: it ${held} already (tenant.${kind})`)
    this.tenant = tenant
  }
}

/** `HOST_PRESSURE`: so much of the host's memory or CPU is in use that new sessions are refused. */
export class HostPressureError extends CorralError {
  constructor(sessionId: string) {
    super(
      'HOST_PRESSURE',
      `Session ${quote(sessionId)} was refused: the host has too little memory or CPU left (pressure)`,
    )
  }
}

/** `SESSION_LOST`: the worker of a live session died or stopped answering; what the session held in memory is gone. */
export class SessionLostError extends CorralError {
  readonly sessionId: string
  readonly reason: LossReason
  readonly exitCode: number | null
  readonly signal: string | null
  /** The last lines that the worker wrote, oldest first. */
  readonly output: readonly string[]

  constructor(sessionId: string, failure: Failure) {
    super('SESSION_LOST', withOutput(`Session ${quote(sessionId)} is lost: ${failure.message}`, failure.output))
    this.sessionId = sessionId
    this.reason = lossReason(failure)
    this.exitCode = failure.exitCode
    this.signal = failure.signal
    this.output = failure.output
  }
}

/** `SESSION_ENDED`: the session was ended while the caller still held a lease on it. */
export class SessionEndedError extends CorralError {
  readonly sessionId: string

  constructor(sessionId: string, reason: string) {
    super('SESSION_ENDED', `Session ${quote(sessionId)} has ended: ${reason}`)
    this.sessionId = sessionId
  }
}

/** `POOL_DRAINING` or `POOL_CLOSED`: the pool takes no new sessions any more. */
export class PoolClosedError extends CorralError {
  constructor(code: 'POOL_DRAINING' | 'POOL_CLOSED', options?: ErrorOptions) {
    super(
      code,
      code === 'POOL_DRAINING' ? 'The pool is draining and takes no new sessions' : 'The pool is closed',
      options,
    )
  }
}

/** `SANDBOX_UNAVAILABLE`: a level of isolation or a limit was asked for that this machine or user does not have. */
export class SandboxUnavailableError extends CorralError {
  /** What was asked for, such as `isolation "full"` or `limits.memory`. */
  readonly wanted: string
  /** The probe that failed. `corral doctor` runs them all. */
  readonly probe: string

  constructor(wanted: string, { probe, detail, fix }: { probe: string; detail: string; fix: string }) {
    super(
      'SANDBOX_UNAVAILABLE',
      `${wanted} is not to be had: the probe "${probe}" failed, as ${detail}. To mend it, ${fix}; or go on ` +
        'without, with onUnavailable "degrade". `corral doctor` shows everything',
    )
    this.wanted = wanted
    this.probe = probe
  }
}

/** `STATE_DIRECTORY_IN_USE`: another supervisor keeps its workers in the same state directory. */
export class StateDirectoryInUseError extends CorralError {
  constructor(directory: string, owner: string) {
    super(
      'STATE_DIRECTORY_IN_USE',
      `The state directory ${quote(directory)} is in use by ${owner}: give each supervisor one of its own ` +
        '(stateDirectory), or leave it out',
    )
  }
}

/** Why a worker failed: its process ended, it stopped answering, or it was killed for want of memory. */
export type LossReason = 'crashed' | 'unhealthy' | 'oom'

/** The word that events and errors carry for the cause of a failure. */
export function lossReason(failure: Failure): LossReason {
  if (failure.cause === 'oom') return 'oom'
  return failure.code === 'WORKER_UNHEALTHY' ? 'unhealthy' : 'crashed'
}

function withOutput(message: string, output: readonly string[]): string {
  return output.length === 0 ? message : `${message}\nLast output of the worker:\n  ${output.join('\n  ')}`
}

/** JSON quoting keeps control characters of a stranger's id out of logs. */
function quote(text: string): string {
  return JSON.stringify(text)
}
