/** Why a worker failed, as a stable code. */
export type FailureCode =
  | 'WORKER_START_FAILED'
  | 'WORKER_START_TIMEOUT'
  | 'WORKER_CRASHED'
  | 'WORKER_UNHEALTHY'
  | 'WORKER_RESET_FAILED'

/**
 * The first cause of a worker's end, as plain JSON, so that it can live in a snapshot, travel in an event and be
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
}

/** Builds a {@link Failure} from whatever an actor threw; an object that already is one passes through. */
export function toFailure(cause: unknown, code: FailureCode): Failure {
  if (isFailure(cause)) return cause
  return {
    code,
    message: cause instanceof Error ? cause.message : String(cause),
    exitCode: null,
    signal: null,
    output: [],
  }
}

function isFailure(value: unknown): value is Failure {
  return typeof value === 'object' && value !== null && 'code' in value && 'output' in value && 'exitCode' in value
}
