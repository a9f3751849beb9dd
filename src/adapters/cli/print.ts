import { visible } from './visible.ts'

/** Resolves when the text is written: exiting before would cut what a pipe has not taken. */
export function print(text: string): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.write(text, () => resolve())
  })
}

/** One message for whoever typed the command, without a stack. It may have lines, and the last words of a worker. */
export function printFailure(message: string): void {
  process.stderr.write(`corral: ${message.split('\n').map(visible).join('\n')}\n`)
}
