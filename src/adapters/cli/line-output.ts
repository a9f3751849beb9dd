import type { Writable } from 'node:stream'

export interface LineOutputListeners {
  /** Called when a line cannot be written, after one that could. */
  readonly onLoss: (error: Error) => void
  /** Called when a line could be written again. @param lines how many could not, before that one. */
  readonly onMended: (lines: number) => void
}

/**
 * Standard output, for lines of which some may be lost: strangers' requests fill a log, and a disk that is full for a while must not
 * end the sessions of all. An output that nobody reads any more is another matter: see {@link isClosed}.
 */
export class LineOutput {
  readonly #stream: Writable
  readonly #listeners: LineOutputListeners
  #lost = 0

  constructor(stream: Writable, listeners: LineOutputListeners) {
    this.#stream = stream
    this.#listeners = listeners
  }

  write(line: string): boolean {
    // The last line that was written may lack its end.
    return this.#stream.write(this.#lost > 0 ? `\n${line}` : line, this.#onWritten)
  }

  readonly #onWritten = (error: Error | null | undefined): void => {
    if (error) {
      if (isClosed(error)) return
      if (this.#lost++ === 0) this.#listeners.onLoss(error)
    } else if (this.#lost > 0) {
      const lost = this.#lost
      this.#lost = 0
      this.#listeners.onMended(lost)
    }
  }
}

/** Whether an output is gone for good, as when its reader is. Of the others each write may be the one that succeeds. */
export function isClosed(error: Error): boolean {
  return !forAWhile.has((error as NodeJS.ErrnoException).code)
}

/** No space, beyond a quota or a limit, a device that failed, a write that would have to wait. */
const forAWhile: ReadonlySet<string | undefined> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG', 'EIO', 'EAGAIN'])
