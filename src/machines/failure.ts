/** Why a worker failed, as a stable code. */
export type FailureCode =
  | 'WORKER_START_FAILED'
  | 'WORKER_START_TIMEOUT'
  | 'WORKER_CRASHED'
  | 'WORKER_UNHEALTHY'
  | 'WORKER_RESET_FAILED'

/**
 * The first cause of a worker's failure, as plain JSON, so that it can live in a snapshot, travel in an event and be
 * compared. The runtime turns it into an error when it reaches a caller.
 */
export interface Failure {
  readonly code: FailureCode
  readonly message: string
  /** Exit status of the process; `null` when a signal ended it or it has not ended yet. */
  readonly exitCode: number | null
  /** Signal that ended the process, such as `SIGKILL`; `null` when none did. */
  readonly signal: string | null
  /** The last lines that the worker wrote, oldest first: stderr, or stdout when stderr is empty. */
  readonly output: readonly string[]
  /** `oom`: the process was ended for want of memory. */
  readonly cause?: 'oom' | undefined
}

/** How a process ended. */
export interface ProcessExit {
  readonly exitCode: number | null
  readonly signal: string | null
  /** What happened, when exit status and signal do not say it. */
  readonly message?: string | undefined
  /** `oom`: it was ended for want of memory. */
  readonly cause?: 'oom' | undefined
  /** Whether a start that ended like this may succeed when tried again. */
  readonly retry?: boolean | undefined
  /** The last lines that the worker wrote, oldest first. */
  readonly output?: readonly string[] | undefined
}

/** The failure that whatever an actor threw stands for. Lines of `output` on the cause are kept. */
export function toFailure(code: FailureCode, cause: unknown): Failure {
  return { code, message: messageOf(cause), exitCode: null, signal: null, output: outputOf(cause) }
}

/** The failure that the end of a process stands for. */
export function exitFailure(code: FailureCode, exit: ProcessExit): Failure {
  const { exitCode, signal, output = [] } = exit
  const during = code === 'WORKER_START_FAILED' ? ' before it was ready' : ''
  const message = exit.message ?? `The worker ${describeExit(exit)}${during}`
  return { code, message, exitCode, signal, output, ...causeOf(exit) }
}

/** A failure with the end of its process filled in; its code and message, the first cause, stay in front. */
export function withExit(failure: Failure, exit: ProcessExit): Failure {
  const { exitCode, signal, message, output = [] } = exit
  const { message: cause } = failure
  return {
    ...failure,
    message: message === undefined || message === cause ? cause : `${cause}. ${message}`,
    exitCode,
    signal,
    output: output.length > 0 ? output : failure.output,
    ...causeOf(exit),
  }
}

function causeOf({ cause }: ProcessExit): Pick<Failure, 'cause'> {
  return cause === undefined ? {} : { cause }
}

function describeExit({ exitCode, signal }: ProcessExit): string {
  if (signal !== null) return `was ended by ${signal}`
  return exitCode === null ? 'ended' : `exited with status ${exitCode}`
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}

function outputOf(cause: unknown): readonly string[] {
  const output = (cause as { output?: unknown } | null)?.output
  return Array.isArray(output) ? (output as string[]) : []
}
