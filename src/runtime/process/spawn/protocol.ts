import type { StateDirectory } from '../state/state-directory.ts'
import type { ProcessEnd, SpawnRequest } from './spawned-process.ts'

/** What the helper is started with, as JSON in its first argument. */
export interface HelperSetup {
  /** Unix socket to which what workers write goes. */
  readonly output: string
  /** To be swept when this process dies. */
  readonly state: Omit<StateDirectory, 'ledger'>
}

/** To the helper. */
export type HelperCommand =
  | { readonly type: 'start'; readonly id: string; readonly request: SpawnRequest }
  | {
      readonly type: 'signal'
      readonly id: string
      readonly target: 'group' | 'leader'
      readonly signal: NodeJS.Signals
    }
  /** End: no worker is left, and the state directory is ours to close. */
  | { readonly type: 'close' }

/** From the helper. */
export type HelperFact =
  | { readonly type: 'ready' }
  /** A command has arrived. */
  | { readonly type: 'heard' }
  | { readonly type: 'started'; readonly id: string; readonly pid: number }
  | { readonly type: 'failed'; readonly id: string; readonly error: SystemError }
  | { readonly type: 'exited'; readonly id: string; readonly end: ProcessEnd }
  | { readonly type: 'stuck'; readonly id: string }
  | { readonly type: 'emptied'; readonly id: string; readonly survivors: readonly number[] }

/** The parts of a system's error that survive the way here. */
export interface SystemError {
  readonly message: string
  readonly code?: string | undefined
  readonly errno?: number | undefined
  readonly syscall?: string | undefined
}

/** The first line on a connection to {@link HelperSetup.output}: whose output follows, and which. */
export function outputHeader(id: string, stream: 'stdout' | 'stderr'): string {
  return `${id} ${stream}\n`
}
