import type { IpcNetConnectOpts, TcpNetConnectOpts } from 'node:net'
import { Socket, connect } from 'node:net'

const kIntake = Symbol('corral.intake')

type IntakeSocket = Socket & { [kIntake]?: Intake }

/**
 * Opens a connection that is read into the same buffer again and again. Node makes one of 64 KiB for every read, however
 * little there is to read: garbage outside of V8's heap, of which some tens of MiB make V8 look through all of the heap.
 * Until it is {@link divert}ed the socket is a stream like any other, which gets little at a time.
 */
export function connectReused(target: TcpNetConnectOpts | IpcNetConnectOpts): Socket {
  const intake = new Intake((chunk) => socket.push(Buffer.from(chunk)))
  const onread = { buffer: () => intake.next(), callback: (length: number) => intake.take(length) }
  const socket: IntakeSocket = connect({ ...target, onread })
  socket[kIntake] = intake
  return socket
}

/**
 * From now on `pass` gets what comes from a connection, and writes it to `to` or drops it: a chunk is there for the call and
 * for as long as `to` has bytes to write, no longer.
 */
export function divert(from: IntakeSocket, to: Socket, pass: (chunk: Buffer) => void): void {
  const intake = from[kIntake]
  if (intake === undefined) from.on('data', pass)
  // The kernel takes a copy. Another stream, which a server may have for a connection, may hand on what it gets, to be kept.
  else intake.divert(to, to instanceof Socket ? pass : (chunk) => pass(Buffer.from(chunk)))
}

/** What one connection is read into. */
class Intake {
  #pass: (chunk: Buffer) => boolean | void
  #to: Socket | undefined
  #buffer: Buffer = Buffer.allocUnsafeSlow(smallest)
  /** What was in use before {@link #buffer}; free as soon as nothing waits to be written. */
  #spare: Buffer | undefined
  #isSpareFree = false
  #length = 0

  /** @param pass returns `false` for the connection to be read no more for now. */
  constructor(pass: (chunk: Buffer) => boolean) {
    this.#pass = pass
  }

  divert(to: Socket, pass: (chunk: Buffer) => void): void {
    this.#to = to
    this.#pass = pass
  }

  take(length: number): boolean {
    this.#length = length
    this.#isSpareFree = !this.#isWaiting()
    return this.#pass(this.#buffer.subarray(0, length)) !== false
  }

  /** The buffer for the next read: another one while what was just read waits to be written. */
  next(): Buffer {
    // Before it is diverted somebody parses it, all of a read even when the first of it was too much.
    const size = this.#to === undefined ? smallest : sizeAfter(this.#length, this.#buffer.length)
    if (this.#isWaiting()) {
      const free = this.#isSpareFree ? this.#spare : undefined
      this.#spare = this.#buffer
      this.#buffer = free?.length === size ? free : Buffer.allocUnsafeSlow(size)
    } else if (size !== this.#buffer.length) {
      this.#buffer = Buffer.allocUnsafeSlow(size)
    }
    return this.#buffer
  }

  #isWaiting(): boolean {
    return this.#to !== undefined && this.#to.writableLength > 0
  }
}

/** What a connection at rest holds, and what a busy one needs so as not to spend its time on system calls. */
const smallest = 4 * 1024
const largest = 64 * 1024

/** Four times as much after a buffer that was filled, a quarter after one that was hardly used. */
function sizeAfter(length: number, size: number): number {
  if (length === size) return Math.min(largest, size * 4)
  return length <= size / 16 ? Math.max(smallest, size / 4) : size
}
