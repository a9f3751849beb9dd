import { visible } from './visible.ts'

/** What was asked for could not be written out: shown as one message, without a stack. */
export class OutputError extends Error {}

/**
 * Resolves when the text is written: exiting before would cut what a pipe has not taken.
 *
 * @throws {OutputError} The disk is full, or whoever read is gone.
 */
export function print(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error) => reject(new OutputError(`Cannot write the output: ${cause.message}`, { cause }))
    // An error that no one listens for ends the process, with a stack.
    process.stdout.once('error', fail)
    process.stdout.write(text, (error) => {
      if (error) return
      process.stdout.off('error', fail)
      resolve()
    })
  })
}

/** One message for whoever typed the command, without a stack. It may have lines, and the last words of a worker. */
export function printFailure(message: string): void {
  process.stderr.write(`corral: ${message.split('\n').map(visible).join('\n')}\n`)
}
