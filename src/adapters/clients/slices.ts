import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import { Server as TlsServer } from 'node:tls'
import type { Flow, TurnBudget } from './turn-budget.ts'

const kSlices = Symbol('corral.slices')

interface ServerSocket extends Socket {
  [kSlices]?: Slices
  /** Node's: it reads no more of the connection for now, since too much waits to be written. */
  readonly _paused?: boolean
}

/**
 * Has the connections of a server take turns. Whoever serves them is to tell their {@link slicesOf} of each request and each small
 * chunk, and when what comes is no longer HTTP.
 */
export function takeTurns(server: Server, budget: TurnBudget): void {
  server.on('connection', () => budget.accepted())
  const event = server instanceof TlsServer ? 'secureConnection' : 'connection'
  server.on(event, (socket: ServerSocket) => {
    socket[kSlices] ??= new Slices(socket, budget)
  })
}

/** Where the bytes of a connection wait for their turn. */
export function slicesOf(socket: ServerSocket): Slices | undefined {
  return socket[kSlices]
}

/** Requests that a slice brings at most. */
const headsPerSlice = 16

/** Lines that a slice brings at most: those of some dozens of fields for each of its requests, or two for each chunk of a body. */
const linesPerSlice = 512

/** No slice is smaller than so many of the smallest heads. */
const smallest = headsPerSlice * 'GET / HTTP/1.1\r\n\r\n'.length

/** Length from which on a body, when it is known, is passed on without a look into it. */
const longBody = 4096

/** Ends every head, as nothing else in a head does; within a body it is just bytes. */
const endOfHead = Buffer.from('\r\n\r\n')

const endOfLine = Buffer.from('\r\n')

/**
 * Hands what comes from a connection of an HTTP server to Node's parser. 64 KiB, which is one read, can be 2,500 heads, or 10,000 chunks
 * of a body: Node makes requests or buffers of them all before it can be told to read no more, which takes 20 ms and, for requests,
 * 5 MiB. Some hundred clients that do so at a time would keep all others waiting for seconds, and some hundred more would use up the
 * memory. Of a slice that brought a part of some kind the rest comes in a later turn of the event loop, and once the connection is
 * read again.
 */
class Slices implements Flow {
  readonly #socket: ServerSocket
  readonly #budget: TurnBudget
  readonly #push: Socket['push']
  readonly #read: Socket['_read']
  /** What was read, and comes later. */
  #rest: Buffer | undefined
  /** Whether the end comes behind it. */
  #hasEnd = false
  /** What has been made of what was passed: requests, and small pieces of bodies in chunks. */
  #parts = 0
  /** The latest request, if its body is in chunks, or long. */
  #req: IncomingMessage | undefined
  /** What is left of its body, where that is known: the parser passes it on as it is. */
  #left = 0
  #isOver = false
  #isDropped = false

  constructor(socket: ServerSocket, budget: TurnBudget) {
    this.#socket = socket
    this.#budget = budget
    // Else the parser reads for itself: it leaves that to the socket when anybody else listens.
    const listener = () => {}
    socket.on('data', listener)
    socket.removeListener('data', listener)
    this.#push = socket.push.bind(socket)
    this.#read = socket._read.bind(socket)
    socket.push = (chunk: Buffer | null) => this.#take(chunk)
    // A stream asks for more after each of its pieces.
    socket._read = (size) => {
      if (this.#rest === undefined) this.#read(size)
    }
    socket.on('resume', this.#onResume)
  }

  /** Told of each request that the server makes of what it gets, before its body comes. */
  begin(req: IncomingMessage): void {
    this.#parts += 2
    this.#left = Number(req.headers['content-length'] ?? 0)
    if (this.#left < longBody) this.#left = 0
    const isChunked = req.headers['transfer-encoding'] !== undefined
    this.#req = isChunked || this.#left > 0 ? req : undefined
    if (this.#left === 0) return
    const push = req.push.bind(req)
    req.push = (piece: Buffer | null) => {
      this.#left -= piece?.length ?? 0
      return push(piece)
    }
  }

  /** Told of each small piece of a body in chunks. One alone may be small since the slice is. */
  count(): void {
    this.#parts++
  }

  /** Told of an upgrade that is none: what came with it follows the request, which goes in again. */
  again(): void {
    this.#parts += 2
    this.#req = undefined
    this.#left = 0
  }

  /** What follows is for somebody else than the parser, who gets it as it comes. */
  end(): void {
    this.#isOver = true
    this.#socket.push = this.#push
    this.#socket._read = this.#read
    this.#socket.removeListener('resume', this.#onResume)
  }

  /** What follows is nothing that the parser could make anything of: only its end matters. */
  drop(): void {
    this.#isDropped = true
    if (this.#rest === undefined) return
    this.#rest = undefined
    this.#passEnd()
  }

  goOn(): void {
    const rest = this.#rest
    if (rest === undefined || this.#isHeld()) return
    this.#rest = undefined
    this.#pass(rest)
    if (this.#rest === undefined) this.#passEnd()
  }

  readonly #onResume = (): void => {
    // Resumed by somebody who does not know of it, as Node sees to when its parser reads for itself.
    if (this.#socket._paused === true) this.#socket.pause()
    else if (this.#rest !== undefined) this.#budget.hold(this)
  }

  #take(chunk: Buffer | null): boolean {
    if (chunk === null) {
      if (this.#rest === undefined) return this.#push(null)
      this.#hasEnd = true
      return false
    }
    if (this.#isDropped) return true
    if (this.#rest === undefined && !this.#isHeld()) return this.#pass(chunk)
    this.#rest = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk])
    return false
  }

  /** Hands on the slices of what was read up to one with parts. Returns whether there may be more. */
  #pass(chunk: Buffer): boolean {
    for (let start = 0; ;) {
      const end = this.#endOfSlice(chunk, start)
      const parts = this.#parts
      const isWithin = this.#left > 0
      const mayGoOn = this.#push(start === 0 && end === chunk.length ? chunk : chunk.subarray(start, end))
      if (isWithin) this.#left -= end - start
      // Only where a body begins within a slice are its pieces counted.
      else if (this.#left > 0) delete (this.#req as Partial<IncomingMessage> | undefined)?.push
      if (end === chunk.length || this.#isDropped || this.#socket.destroyed) return mayGoOn
      start = end
      if (this.#isOver || (this.#parts - parts < 2 && !this.#isHeld())) continue
      this.#rest = chunk.subarray(start)
      this.#budget.hold(this)
      return false
    }
  }

  #endOfSlice(chunk: Buffer, start: number): number {
    if (this.#isOver) return chunk.length
    if (this.#left > 0) return Math.min(chunk.length, start + this.#left)
    if (chunk.length - start <= smallest) return chunk.length
    const { headers, complete } = this.#req ?? {}
    const isChunked = headers?.['transfer-encoding'] !== undefined && complete === false
    const end = isChunked ? chunk.length : behind(chunk, start, endOfHead, headsPerSlice)
    return behind(chunk.subarray(0, end), start, endOfLine, linesPerSlice)
  }

  #passEnd(): void {
    if (!this.#hasEnd) return
    this.#hasEnd = false
    this.#push(null)
    // As Node does at an end, for it to be told when nothing comes before it.
    this.#socket.read(0)
  }

  #isHeld(): boolean {
    return this.#socket.destroyed || (!this.#isOver && this.#socket.isPaused())
  }
}

/** Behind so many marks, or at the end if there are not as many. */
function behind(chunk: Buffer, start: number, mark: Buffer, count: number): number {
  let end = start
  for (let i = 0; i < count; i++) {
    const index = chunk.indexOf(mark, end)
    if (index === -1) return chunk.length
    end = index + mark.length
  }
  return end
}
