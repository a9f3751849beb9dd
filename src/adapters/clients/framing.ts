import type { IncomingMessage } from 'node:http'

/** What a message of HTTP/1.1 consists of, one after the other (RFC 9112 §2.1, §7.1). */
type Part =
  /** Empty lines in front of a head, which parsers skip (RFC 9112 §2.2). */
  | 'blank'
  | 'head'
  /** A body of known length, or one of the chunks of another, with its end of line. */
  | 'content'
  | 'chunk size'
  /** The extensions of a chunk, up to the end of its line. */
  | 'chunk line'
  | 'trailers'

const carriageReturn = 0x0d
const lineFeed = 0x0a
const endOfLine = Buffer.from('\r\n')
/** Ends heads and trailers, within which nothing else looks like it. */
const endOfFields = Buffer.from('\r\n\r\n')

/** What it takes to parse a chunk, however small, is what it takes for so many bytes. */
const chunkCost = 64

/**
 * Knows where in the bytes of a connection the heads end, and how many chunks there are: as a parser does, but without a look into what
 * is in between. It is for the parser to find what is wrong; should the two ever disagree, steps are too short or too long.
 */
export class Framing {
  #part: Part = 'blank'
  /** What is left of the content; while its size is read, what has been read of that. */
  #left = 0
  #isChunked = false
  /** The last bytes of the fields so far, with which their end may begin. */
  #tail = nothing
  /** When the first of the empty lines came that are in front of the next head. */
  #blankSince: number | undefined
  /** What it takes to parse the last step, in bytes. */
  cost = 0

  /** Whether a head has begun and not ended. */
  get isWithinHead(): boolean {
    return this.#part === 'head'
  }

  /** For how many milliseconds nothing but empty lines has come. */
  get blankFor(): number {
    return this.#blankSince === undefined ? 0 : performance.now() - this.#blankSince
  }

  /** Counts that anew. */
  forgetBlank(): void {
    this.#blankSince = undefined
  }

  /** The body of the request whose head ended the last step is the next to come. */
  begin({ headers }: IncomingMessage): void {
    this.#isChunked = headers['transfer-encoding'] !== undefined
    this.#left = this.#isChunked ? 0 : Number(headers['content-length'] ?? 0)
    if (this.#isChunked) this.#part = 'chunk size'
    else this.#part = this.#left > 0 ? 'content' : 'blank'
  }

  /** Returns the end of a step from `start` on: behind a head, or chunks that cost so much, or of what there is. */
  step(bytes: Buffer, start: number, most: number): number {
    this.cost = 0
    let at = start
    while (at < bytes.length) {
      if (this.#part === 'head') return this.#endOfHead(bytes, at)
      if (this.cost >= most) return at
      at = this.#skip(bytes, at)
    }
    return at
  }

  #endOfHead(bytes: Buffer, start: number): number {
    const end = this.#endOfFields(bytes, start)
    this.cost += (end ?? bytes.length) - start
    if (end === undefined) return bytes.length
    this.#part = 'blank'
    return end
  }

  /** Returns the end of this part, or of what there is of it. */
  #skip(bytes: Buffer, start: number): number {
    let at = start
    switch (this.#part) {
      case 'blank': {
        while (bytes[at] === carriageReturn || bytes[at] === lineFeed) at++
        if (at < bytes.length) {
          this.#part = 'head'
          this.#blankSince = undefined
        } else if (at > start) this.#blankSince ??= performance.now()
        return at
      }
      case 'content': {
        at = Math.min(bytes.length, start + this.#left)
        this.#left -= at - start
        if (this.#left === 0) this.#part = this.#isChunked ? 'chunk size' : 'blank'
        return at
      }
      case 'chunk size': {
        for (let digit; (digit = hexadecimal(bytes[at])) !== undefined; at++) this.#left = this.#left * 16 + digit
        if (at < bytes.length) this.#part = 'chunk line'
        return at
      }
      case 'chunk line': {
        at = bytes.indexOf(lineFeed, start) + 1
        if (at === 0) return bytes.length
        this.cost += chunkCost
        this.#part = this.#left === 0 ? 'trailers' : 'content'
        if (this.#left === 0) this.#tail = endOfLine
        else this.#left += endOfLine.length
        return at
      }
      default: {
        const end = this.#endOfFields(bytes, start)
        if (end === undefined) return bytes.length
        this.#part = 'blank'
        return end
      }
    }
  }

  #endOfFields(bytes: Buffer, start: number): number | undefined {
    const few = endOfFields.length - 1
    if (this.#tail.length > 0) {
      // It may be in two pieces.
      const seam = Buffer.concat([this.#tail, bytes.subarray(start, start + few)])
      const index = seam.indexOf(endOfFields)
      if (index !== -1) {
        const end = start + index + endOfFields.length - this.#tail.length
        this.#tail = nothing
        return end
      }
      this.#tail = seam.subarray(-few)
    }
    const index = bytes.indexOf(endOfFields, start)
    if (index !== -1) {
      this.#tail = nothing
      return index + endOfFields.length
    }
    if (bytes.length - start >= few) this.#tail = Buffer.from(bytes.subarray(-few))
    else if (this.#tail.length === 0) this.#tail = Buffer.from(bytes.subarray(start))
    return undefined
  }
}

const nothing = Buffer.alloc(0)

function hexadecimal(byte: number | undefined): number | undefined {
  if (byte === undefined) return undefined
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const lower = byte | 0x20
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : undefined
}
