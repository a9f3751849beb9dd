import { StringDecoder } from 'node:string_decoder'

const MAX_LINES = 50
const MAX_LINE_BYTES = 2048
const NEWLINE = 0x0a
const RETURN = 0x0d
/** Lines that are told of one stream in a second. */
const MAX_TOLD = 1_000
const SECOND = 1_000

export interface OutputListeners {
  /**
   * Gets each line when it is finished, and at the end what there is of the last one; up to 1,000 in a second, and then how much was
   * left out.
   */
  readonly onLine?: ((line: string) => void) | undefined
  /**
   * Gets every line before it is told, those that are left out as well, and what there is of the unfinished one whenever that has
   * grown; until it returns `true`, as what it looks for has come.
   */
  readonly search?: ((text: string) => boolean) | undefined
}

/**
 * The last lines of a stream, in bounded memory: 50 lines of up to 2 KiB. Works on bytes, and decodes whole lines, so that
 * a character that is split over two chunks stays whole, and the rest of an endless line costs no more than a search. Of a flood
 * of lines only the last ones of each chunk are looked at: a worker that writes nothing else must not keep this process busy.
 * Of a line that is written over, as progress bars do with a carriage return alone, the latest text counts.
 */
export class OutputTail {
  readonly #onLine: ((line: string) => void) | undefined
  #search: ((text: string) => boolean) | undefined
  readonly #lines: string[] = []
  readonly #line = Buffer.alloc(MAX_LINE_BYTES)
  /** Bytes that are kept of the unfinished line, and those that have come. */
  #size = 0
  #came = 0
  /** The second that it is, and the lines of it that have been told. */
  #second = 0
  #told = 0
  /** Bytes that nobody was told of since somebody was, and what tells of them when nothing more comes. */
  #leftOut = 0
  #note: NodeJS.Timeout | undefined
  /** Whether carriage returns came behind what there is of the unfinished line: what follows is written over that. */
  #isReturning = false
  /** What was looked at of what was written over in the latest chunk. */
  #looks = 0
  readonly #now: () => number

  /** @param now milliseconds of a clock that never goes back. */
  constructor({ onLine, search }: OutputListeners = {}, now: () => number = () => performance.now()) {
    this.#onLine = onLine
    this.#search = search
    this.#now = now
  }

  /** @returns whether that was so much to look at that others are to have their turn before more of it comes. */
  write(chunk: Buffer): boolean {
    this.#lookAtClock()
    const isSearching = this.#search !== undefined
    this.#looks = 0
    let rest = this.#takeLines(chunk, MAX_TOLD - this.#told, 'told')
    const isFlood = rest.includes(NEWLINE)
    if (isFlood) rest = this.#leaveOut(rest)
    if (this.#append(rest) && this.#search !== undefined) this.#look(this.#partialLine())
    return isSearching && (isFlood || this.#looks > MAX_TOLD)
  }

  /** The stream is over: what there is of the last line counts as a line. */
  end(): void {
    this.#tellLeftOut()
    const last = this.#partialLine()
    if (last !== '') this.#finishLine(last, 'told')
  }

  /** The last lines, oldest first, the unfinished one included. */
  lines(): readonly string[] {
    const last = this.#partialLine()
    return last === '' ? [...this.#lines] : [...this.#lines, last].slice(-MAX_LINES)
  }

  /** Adds to the unfinished line, from where it was written over last. @returns whether there is more to be seen of it. */
  #append(bytes: Buffer): boolean {
    let end = bytes.length
    while (end > 0 && bytes[end - 1] === RETURN) end--
    let hasGrown = false
    if (end > 0) {
      if (this.#isReturning) this.#restart()
      const begin = bytes.lastIndexOf(RETURN, end - 1) + 1
      if (begin > 0) {
        if (this.#search !== undefined) this.#lookAtOverwritten(bytes.subarray(0, begin))
        this.#restart()
      }
      hasGrown = this.#store(bytes.subarray(begin, end))
      this.#isReturning = false
    }
    // They may belong to the end of the line.
    if (end < bytes.length) this.#isReturning = true
    return hasGrown
  }

  #store(bytes: Buffer): boolean {
    const kept = bytes.copy(this.#line, this.#size)
    this.#size += kept
    this.#came += bytes.length
    return kept > 0
  }

  #restart(): void {
    this.#size = 0
    this.#came = 0
  }

  /** Nobody is told of what was written over, but what is looked for may be among it. */
  #lookAtOverwritten(bytes: Buffer): void {
    for (let start = 0; start < bytes.length && this.#search !== undefined;) {
      const end = bytes.indexOf(RETURN, start)
      if (this.#size === 0 && end - start <= MAX_LINE_BYTES) this.#look(bytes.toString('utf8', start, end))
      else {
        this.#store(bytes.subarray(start, end))
        this.#look(this.#partialLine())
        this.#restart()
      }
      this.#looks++
      start = end + 1
    }
  }

  /** @returns what comes behind `count` lines, or the last one. */
  #takeLines(chunk: Buffer, count: number, as: 'told' | 'kept'): Buffer {
    let start = 0
    for (let left = count; left > 0; left--) {
      const end = chunk.indexOf(NEWLINE, start)
      if (end === -1) break
      this.#finishLine(this.#lineOf(chunk, start, end), as)
      start = end + 1
    }
    return chunk.subarray(start)
  }

  /** The line that ends there, of which a part may have come before. */
  #lineOf(chunk: Buffer, start: number, end: number): string {
    if (this.#size === 0 && end === start) return ''
    // Most lines come whole.
    if (this.#size === 0 && end - start <= MAX_LINE_BYTES) {
      const line = chunk.toString('utf8', start, end)
      const at = line.indexOf('\r')
      if (at === -1) return line
      if (at === line.length - 1) return line.slice(0, -1)
    }
    this.#append(chunk.subarray(start, end))
    return this.#partialLine()
  }

  /** Takes of too many lines only the last ones, unless something is looked for, and tells of none. @returns what comes behind them. */
  #leaveOut(lines: Buffer): Buffer {
    const before = this.#came
    const last = this.#search === undefined ? lines.subarray(beginOfLast(lines)) : lines
    if (last.length < lines.length) this.#restart()
    const rest = this.#takeLines(last, Number.POSITIVE_INFINITY, 'kept')
    this.#leftOut += before + lines.length - rest.length
    this.#note ??= setTimeout(() => this.#tellLeftOut(), SECOND).unref()
    return rest
  }

  #finishLine(line: string, as: 'told' | 'kept'): void {
    this.#restart()
    this.#isReturning = false
    this.#lines.push(line)
    if (this.#lines.length > MAX_LINES) this.#lines.shift()
    this.#look(line)
    if (as === 'kept') return
    this.#told++
    this.#onLine?.(line)
  }

  #look(text: string): void {
    if (this.#search?.(text) === true) this.#search = undefined
  }

  #lookAtClock(): void {
    const now = this.#now()
    if (now - this.#second < SECOND) return
    this.#second = now
    this.#told = 0
    this.#tellLeftOut()
  }

  #tellLeftOut(): void {
    clearTimeout(this.#note)
    this.#note = undefined
    if (this.#leftOut === 0) return
    this.#onLine?.(`… ${this.#leftOut} bytes of output left out: more than ${MAX_TOLD} lines in a second`)
    this.#leftOut = 0
  }

  #partialLine(): string {
    // The decoder holds back a character whose end is missing.
    if (this.#size === 0) return ''
    const text = new StringDecoder('utf8').write(this.#line.subarray(0, this.#size))
    return this.#came > this.#size ? `${text}…` : text
  }
}

/** Where the last lines of what ends none or some begin, which are kept in any case. */
function beginOfLast(chunk: Buffer): number {
  let begin = chunk.lastIndexOf(NEWLINE) + 1
  for (let lines = 0; lines < MAX_LINES && begin > 0; lines++) {
    // A negative offset would count from the end.
    begin = begin < 2 ? 0 : chunk.lastIndexOf(NEWLINE, begin - 2) + 1
  }
  return begin
}
