import type { OutputSource, ProcessWorkerOptions } from './options.ts'

/** Hands lines to the user's callback, whose errors must not reach the reading of the pipes: told once, then ignored. */
export function createReporter(onOutput: NonNullable<ProcessWorkerOptions['onOutput']>) {
  let warn = (error: unknown) => {
    warn = () => {}
    process.emitWarning(`onOutput failed: ${error instanceof Error ? error.message : String(error)}`, 'CorralWarning')
  }
  return (line: string, source: OutputSource): void => {
    try {
      // An async function is welcome as well.
      const result: unknown = onOutput(line, source)
      if (result instanceof Promise) result.catch((error: unknown) => warn(error))
    } catch (error) {
      warn(error)
    }
  }
}
