import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import { Server as TlsServer } from 'node:tls'
import { costOf } from './cost.ts'
import { Framing } from './framing.ts'
import type { Flow, TurnBudget } from './turn-budget.ts'

const kSlices = Symbol('corral.slices')

interface ServerSocket extends Socket {
  [kSlices]?: Slices
  /** Node's: it reads no more of the connection for now, since too much waits to be written. */
  readonly _paused?: boolean
}

/**
 * Has the connections of a server take turns. Whoever serves them is to tell their {@link slicesOf} of each request, and when what comes
 * is no longer HTTP.
 *
 * @param idleness how long connections may send nothing but empty lines.
 */
export function takeTurns(
  server: Server,
  budget: TurnBudget,
  idleness: Idleness = { timeout: 0, isIdle: () => false },
): void {
  server.on('connection', () => budget.accepted())
  const event = server instanceof TlsServer ? 'secureConnection' : 'connection'
  server.on(event, (socket: ServerSocket) => {
    socket[kSlices] ??= new Slices(socket, budget, idleness)
  })
}

/** Where the bytes of a connection wait for their turn. */
export function slicesOf(socket: ServerSocket): Slices | undefined {
  return socket[kSlices]
}

export interface Idleness {
  /** Longest time in which nothing but empty lines may come, in milliseconds; `0`: no limit. For Node they are signs of life. */
  readonly timeout: number
  /** Whether no response is open. */
  readonly isIdle: (socket: Socket) => boolean
}

/** What a connection may take of one turn, in bytes: 16 small requests, or 256 chunks of a body. */
const mostPerTurn = 16 * 1024

/**
 * Hands what comes from a connection of an HTTP server to Node's parser. 64 KiB, which is one read, can be 2,500 heads, or 10,000 chunks
 * of a body: Node makes requests or buffers of them all before it can be told to read no more, which takes 20 ms and, for requests,
 * 5 MiB. Some hundred clients that do so at a time would keep all others waiting for seconds, and some hundred more would use up the
 * memory. Here each head is passed by itself, so that what follows is known, and when a turn of the event loop has brought enough, the
 * rest comes in a later one, and once the connection is read again.
 */
class Slices implements Flow {
  readonly #socket: ServerSocket
  readonly #budget: TurnBudget
  readonly #push: Socket['push']
  readonly #read: Socket['_read']
  readonly #framing = new Framing()
  readonly #idleness: Idleness
  /** What was read, and comes later. */
  #rest: Buffer | undefined
  /** Whether the end comes behind it. */
  #hasEnd = false
  /** The latest turn in which something was passed, and what that took. */
  #turn = -1
  #taken = 0
  /** Whether there was a request. */
  #isUsed = false
  #isOver = false
  #isDropped = false

  constructor(socket: ServerSocket, budget: TurnBudget, idleness: Idleness) {
    this.#idleness = idleness
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
    this.#isUsed = true
    this.#framing.begin(req)
    this.#taken += costOf(req)
  }

  /** Whether a request has begun to come of which the server has not been told. */
  get hasBegun(): boolean {
    return !this.#isOver && !this.#isDropped && (this.#rest !== undefined || this.#framing.isWithinHead)
  }

  /** Told of an upgrade that is none: its request goes in again, before what follows. */
  again(): void {
    this.#taken = mostPerTurn
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
    if (this.#rest === undefined) return this.#pass(chunk)
    this.#rest = Buffer.concat([this.#rest, chunk])
    return false
  }

  /** Hands on what was read, as far as this turn goes. Returns whether there may be more. */
  #pass(chunk: Buffer): boolean {
    const turn = this.#budget.now()
    if (turn !== this.#turn) this.#taken = 0
    this.#turn = turn
    for (let start = 0; ;) {
      if (!this.#isOver && (this.#taken >= mostPerTurn || this.#isHeld())) {
        this.#rest = chunk.subarray(start)
        this.#budget.hold(this)
        return false
      }
      const end = this.#isOver ? chunk.length : this.#framing.step(chunk, start, mostPerTurn - this.#taken)
      this.#taken += this.#framing.cost
      if (this.#isTooLongBlank()) {
        this.#socket.destroy()
        return false
      }
      const mayGoOn = this.#push(start === 0 && end === chunk.length ? chunk : chunk.subarray(start, end))
      if (end === chunk.length || this.#isDropped || this.#socket.destroyed) return mayGoOn
      start = end
    }
  }

  /** Before the first request Node has a limit, and an answer. */
  #isTooLongBlank(): boolean {
    const { timeout, isIdle } = this.#idleness
    if (!this.#isUsed || timeout === 0 || this.#framing.blankFor === 0) return false
    if (isIdle(this.#socket)) return this.#framing.blankFor > timeout
    this.#framing.forgetBlank()
    return false
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
