import { fstatSync, writeSync } from 'node:fs'

/** Where lines go: standard output, or something that is like it. */
export interface LineSink {
  /** Bytes that wait for a reader; absent where nothing waits. */
  readonly writableLength?: number
  /** @param onWritten also told how many bytes were written before the error, where that is known. */
  write(text: string, onWritten: (error?: Error | null, written?: number) => void): boolean
}

export interface LineOutputListeners {
  /** Called when a line cannot be written, after one that could. */
  readonly onLoss: (error: Error) => void
  /** Called when a line could be written again. @param lines how many could not, or not whole, before that one. */
  readonly onMended: (lines: number) => void
}

/** Bytes that may wait for a reader. Lines beyond that are lost, until half of it is read. */
const mostWaiting = 8 * 1024 * 1024

/**
 * Standard output, for lines of which some may be lost: strangers' requests fill a log, and a disk that is full for a while, or a reader
 * that has stopped, must not end the sessions of all. An output that nobody reads any more is another matter: see {@link isClosed}.
 */
export class LineOutput {
  readonly #sink: LineSink
  readonly #listeners: LineOutputListeners
  #lost = 0
  /** What was written last lacks its end. */
  #isTorn = false
  /** Too much waits for the reader. */
  #isFull = false

  constructor(sink: LineSink, listeners: LineOutputListeners) {
    this.#sink = sink
    this.#listeners = listeners
  }

  write(line: string): boolean {
    const waiting = this.#waiting()
    this.#isFull ||= waiting > mostWaiting
    if (this.#isFull) {
      this.#lose(new Error(`its reader takes too little, ${waiting} bytes wait for it`))
      return false
    }
    return this.#sink.write(this.#isTorn ? `\n${line}` : line, this.#onWritten)
  }

  readonly #onWritten = (error?: Error | null, written = 0): void => {
    if (error) {
      // After a torn line that may have been its end alone.
      if (written > 0) this.#isTorn = !this.#isTorn || written > 1
      if (!isClosed(error)) this.#lose(error)
      return
    }
    this.#isTorn = false
    if (this.#isFull && this.#waiting() > mostWaiting / 2) return
    this.#isFull = false
    if (this.#lost === 0) return
    const lost = this.#lost
    this.#lost = 0
    this.#listeners.onMended(lost)
  }

  #waiting(): number {
    return this.#sink.writableLength ?? 0
  }

  #lose(error: Error): void {
    if (this.#lost++ === 0) this.#listeners.onLoss(error)
  }
}

/** Standard output. Into a file, Node's own stream does not look whether all of a line was written. */
export function standardOutput(): LineSink {
  return isFile(process.stdout.fd) ? new FileSink(process.stdout.fd) : process.stdout
}

export class FileSink implements LineSink {
  readonly #fd: number

  constructor(fd: number) {
    this.#fd = fd
  }

  write(text: string, onWritten: (error?: Error, written?: number) => void): boolean {
    const bytes = Buffer.from(text)
    let written = 0
    try {
      while (written < bytes.length) written += writeSync(this.#fd, bytes, written)
    } catch (error) {
      onWritten(error as Error, written)
      return true
    }
    onWritten()
    return true
  }
}

function isFile(fd: number): boolean {
  try {
    return fstatSync(fd).isFile()
  } catch {
    return false
  }
}

/** Whether an output is gone for good, as when its reader is. Of the others each write may be the one that succeeds. */
export function isClosed(error: Error): boolean {
  return !forAWhile.has((error as NodeJS.ErrnoException).code)
}

/** No space, beyond a quota or a limit, a device that failed, a write that would have to wait. */
const forAWhile: ReadonlySet<string | undefined> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG', 'EIO', 'EAGAIN'])
