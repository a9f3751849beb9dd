/** A line of output that tells that a worker is ready. */
export interface ReadyLine {
  /** Resolves when it has been seen. */
  readonly seen: Promise<void>
  /** Is to get every line, and the unfinished one as it grows: a prompt never ends its line. @returns whether it has been seen. */
  readonly test: (text: string) => boolean
}

/** Waits for a line that contains `line` or matches it. */
export function watchForLine(line: string | RegExp): ReadyLine {
  const matches = typeof line === 'string' ? (text: string) => text.includes(line) : toTest(line)
  let resolve!: () => void
  let isSeen = false
  const seen = new Promise<void>((settle) => {
    resolve = settle
  })
  const test = (text: string) => {
    isSeen ||= matches(text)
    if (isSeen) resolve()
    return isSeen
  }
  return { seen, test }
}

/** A copy without the flags that would make a match depend on the one before. */
function toTest({ source, flags }: RegExp): (text: string) => boolean {
  const pattern = new RegExp(source, flags.replaceAll(/[gy]/g, ''))
  return (text) => pattern.test(text)
}
