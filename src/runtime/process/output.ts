import { StringDecoder } from 'node:string_decoder'

const MAX_LINES = 50
const MAX_LINE_BYTES = 2048
const NEWLINE = 0x0a

export interface OutputListeners {
  /** Gets each line when it is finished, and at the end what there is of the last one. */
  readonly onLine?: ((line: string) => void) | undefined
  /** Gets what there is of the unfinished line, whenever that has grown. */
  readonly onPartialLine?: ((text: string) => void) | undefined
}

/**
 * The last lines of a stream, in bounded memory: 50 lines of up to 2 KiB. Works on bytes, and decodes whole lines, so that
 * a character that is split over two chunks stays whole, and the rest of an endless line costs no more than a search.
 */
export class OutputTail {
  readonly #listeners: OutputListeners
  readonly #lines: string[] = []
  readonly #line = Buffer.alloc(MAX_LINE_BYTES)
  #size = 0
  /** More bytes of the unfinished line have come than are kept. */
  #cut = false

  constructor(listeners: OutputListeners = {}) {
    this.#listeners = listeners
  }

  write(chunk: Buffer): void {
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      this.#append(chunk.subarray(start, end))
      this.#finishLine()
      start = end + 1
    }
    const before = this.#size
    this.#append(chunk.subarray(start))
    if (this.#size > before) this.#listeners.onPartialLine?.(this.#partialLine())
  }

  /** The stream is over: what there is of the last line counts as a line. */
  end(): void {
    if (this.#size > 0) this.#finishLine()
  }

  /** The last lines, oldest first, the unfinished one included. */
  lines(): readonly string[] {
    return this.#size === 0 ? [...this.#lines] : [...this.#lines, this.#partialLine()].slice(-MAX_LINES)
  }

  #append(bytes: Buffer): void {
    const copied = bytes.copy(this.#line, this.#size)
    this.#size += copied
    if (copied < bytes.length) this.#cut = true
  }

  #finishLine(): void {
    const line = this.#partialLine()
    this.#size = 0
    this.#cut = false
    this.#lines.push(line)
    if (this.#lines.length > MAX_LINES) this.#lines.shift()
    this.#listeners.onLine?.(line)
  }

  #partialLine(): string {
    // The decoder holds back a character whose end is missing.
    const text = new StringDecoder('utf8').write(this.#line.subarray(0, this.#size))
    return this.#cut ? `${text}…` : text.replace(/\r$/, '')
  }
}
