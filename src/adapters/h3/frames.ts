/** Opcodes of the frames that a gateway has to know (RFC 6455 §5.2). */
const opcodes = { close: 0x8, ping: 0x9, pong: 0xa } as const

/**
 * Follows one direction of a WebSocket from frame to frame (RFC 6455 §5.2), looking at heads alone: for whoever wants to
 * put a control frame of its own in, which is allowed between any two frames, those of one message included (§5.4), and
 * nowhere else.
 */
export class FrameScanner {
  /** Whether the direction has been closed by a close frame: nothing may follow it (§5.5.1). */
  closed = false
  /** Bytes of the current frame's content that are still to come. */
  #left = 0
  /** The head as far as it has come. */
  readonly #head = Buffer.alloc(14)
  #length = 0
  #opcode = 0

  /** Whether the next byte begins a frame. */
  get atBoundary(): boolean {
    return this.#left === 0 && this.#length === 0
  }

  /** @returns whether there was more in the chunk than pongs. */
  feed(chunk: Buffer): boolean {
    let more = false
    let at = 0
    while (at < chunk.length) {
      if (this.#left > 0) {
        const taken = Math.min(this.#left, chunk.length - at)
        this.#left -= taken
        at += taken
      } else {
        this.#head[this.#length++] = chunk[at++] as number
        if (this.#length < headLength(this.#head, this.#length)) continue
        this.#begin()
      }
      more ||= this.#opcode !== opcodes.pong
    }
    return more
  }

  /** The head is complete. */
  #begin(): void {
    const length = (this.#head[1] as number) & 0x7f
    this.#opcode = (this.#head[0] as number) & 0x0f
    if (this.#opcode === opcodes.close) this.closed = true
    if (length === 126) this.#left = this.#head.readUInt16BE(2)
    // Beyond what a number can count exactly no frame ends within anybody's lifetime.
    else if (length === 127) this.#left = Number(this.#head.readBigUInt64BE(2))
    else this.#left = length
    this.#length = 0
  }
}

/** Length of a frame's head, as far as the bytes of it that are there tell. */
function headLength(head: Buffer, known: number): number {
  if (known < 2) return 2
  const second = head[1] as number
  const length = second & 0x7f
  const extended = length === 126 ? 2 : length === 127 ? 8 : 0
  return 2 + extended + (second & 0x80 ? 4 : 0)
}

/** A close frame as a server sends it (RFC 6455 §5.5.1). */
export function closeFrame(code: number, reason: string): Buffer {
  const text = Buffer.from(reason)
  const frame = Buffer.alloc(4 + text.length)
  frame[0] = 0x80 | opcodes.close
  frame[1] = 2 + text.length
  frame.writeUInt16BE(code, 2)
  text.copy(frame, 4)
  return frame
}

/** A ping without content as a server sends it. The pong goes to the worker, as an unsolicited one, which §5.5.3 allows. */
export const pingFrame = Buffer.from([0x80 | opcodes.ping, 0])
