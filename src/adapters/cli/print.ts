/** Resolves when the text is written: exiting before would cut what a pipe has not taken. */
export function print(text: string): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.write(text, () => resolve())
  })
}

/** One message for whoever typed the command, without a stack. */
export function printFailure(message: string): void {
  process.stderr.write(`corral: ${message}\n`)
}
