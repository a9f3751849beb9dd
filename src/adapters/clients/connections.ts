import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { Server as TlsServer } from 'node:tls'
import { linger } from './linger.ts'
import { noticeReset, resetConnection } from './reset.ts'
import { slicesOf, takeTurns } from './slices.ts'
import type { TurnBudget } from './turn-budget.ts'

const kState = Symbol('corral.connection')

interface Connection extends Socket {
  [kState]?: State
}

interface State {
  /** The responses that are not over yet, and the latest one. */
  open: number
  last: ServerResponse | undefined
  upgraded: boolean
  /** The answer to what is not HTTP, after which nothing more can be read. */
  malformed: string | undefined
}

interface ConnectionsOptions {
  /** What their requests take turns by. */
  readonly budget: TurnBudget
  /** Longest time that a handshake of TLS may take, and empty lines in front of a head, in milliseconds; `0`: no limit. */
  readonly headersTimeout?: number
  /** Called for each that takes longer, and is cut. */
  readonly onLate?: () => void
  /** Ends what an upgraded connection carries; `false`: it is for a reset to end that. */
  readonly hangUp?: (socket: Socket) => boolean
}

/**
 * The connections of one server, so that closing it neither waits for idle ones nor cuts busy ones. Node's own
 * `closeIdleConnections`, which `server.close` calls, cuts responses whose last bytes wait for a slow client, and neither
 * it nor `closeAllConnections` knows upgraded connections.
 */
export class Connections {
  readonly #all = new Set<Connection>()
  readonly #onIdle: (this: ServerResponse) => void
  #closing = false
  #cut: NodeJS.Timeout | undefined
  #onEmpty: (() => void)[] = []

  /** Those of TLS that are still about to become secure, by the client's address and port. */
  readonly #shaking = new Map<string, Socket>()

  readonly #hangUp: (socket: Socket) => boolean
  readonly #server: Server

  constructor(server: Server, { budget, headersTimeout = 0, onLate, hangUp = () => false }: ConnectionsOptions) {
    this.#hangUp = hangUp
    const release = (socket: Connection) => this.#release(socket)
    this.#onIdle = function onIdle() {
      release(this.req.socket)
    }
    if (server instanceof TlsServer) {
      server.prependListener('connection', (socket: Socket) => this.#shake(socket, headersTimeout, onLate))
      server.prependListener('secureConnection', (socket: Socket) => this.#secure(socket))
    } else {
      server.on('connection', (socket: Socket) => this.#add(socket))
    }
    server.on('timeout', (socket: Socket) => this.#timeOut(socket))
    const isIdle = (socket: Connection) => socket[kState]?.open === 0
    takeTurns(server, budget, { timeout: headersTimeout, isIdle })
    this.#server = server
  }

  /** Counts a response as open until it is over. */
  begin(req: IncomingMessage, res: ServerResponse): void {
    const state = (req.socket as Connection)[kState]
    if (state === undefined) return
    slicesOf(req.socket)?.begin(req)
    state.open++
    state.last = res
    res.on('close', this.#onIdle)
    if (this.#closing) res.shouldKeepAlive = false
  }

  /** An upgraded connection counts as open until it is closed. */
  upgraded(socket: Socket): void {
    const state = (socket as Connection)[kState]
    if (state === undefined) return
    state.upgraded = true
    slicesOf(socket)?.end()
  }

  /** What came with an upgrade that is none follows its request, which goes in again. */
  ignored(socket: Socket): void {
    slicesOf(socket)?.again()
  }

  /** Whether the body of a connection's latest request is not all there. */
  isWithinBody(socket: Socket): boolean {
    return (socket as Connection)[kState]?.last?.req.complete === false
  }

  /**
   * Answers bytes that are not HTTP, and closes. The responses to the requests before them go first: the client would take
   * this for one of those (RFC 9112 §9.3.2). Without an `answer` the connection is cut.
   */
  refuse(socket: Connection, answer: string | undefined): void {
    slicesOf(socket)?.drop()
    const state = socket[kState]
    if (answer === undefined || state === undefined) {
      socket.destroy()
      return
    }
    state.malformed ??= answer
    this.#endMalformed(socket, state)
  }

  /**
   * Closes every connection, idle ones at once, the others as they become idle, and after `grace` whatever is left. A later
   * call can cut it short. Resolves once all are closed.
   */
  async close(grace: number): Promise<void> {
    this.#closing = true
    for (const socket of this.#shaking.values()) socket.destroy()
    for (const socket of this.#all) {
      const last = socket[kState]?.last
      if (last?.headersSent === false) last.shouldKeepAlive = false
      this.#closeIfIdle(socket)
    }
    if (this.#all.size === 0) return
    clearTimeout(this.#cut)
    this.#cut = setTimeout(() => this.#destroyAll(), grace)
    await new Promise<void>((resolve) => {
      this.#onEmpty.push(resolve)
    })
    clearTimeout(this.#cut)
  }

  #shake(socket: Socket, timeout: number, onLate: (() => void) | undefined): void {
    const key = peerOf(socket)
    this.#shaking.set(key, socket)
    socket.setTimeout(timeout, () => {
      socket.destroy()
      onLate?.()
    })
    socket.once('close', () => {
      if (this.#shaking.get(key) === socket) this.#shaking.delete(key)
    })
    if (this.#closing) socket.destroy()
  }

  /** From here on the secure connection stands for the one beneath it. */
  #secure(socket: Socket): void {
    const key = peerOf(socket)
    this.#shaking.get(key)?.setTimeout(0)
    this.#shaking.delete(key)
    this.#add(socket)
  }

  #add(socket: Connection): void {
    if (socket[kState] !== undefined) return
    socket[kState] = { open: 0, last: undefined, upgraded: false, malformed: undefined }
    // A client that vanished without a word is found out, so that its session can become idle.
    socket.setKeepAlive(true, keepAliveDelay)
    noticeReset(socket)
    this.#all.add(socket)
    socket.once('close', () => {
      this.#all.delete(socket)
      if (this.#all.size === 0) for (const resolve of this.#onEmpty.splice(0)) resolve()
    })
    if (this.#closing) socket.destroy()
  }

  /**
   * Node has kept it for its next request, and counts from the latest byte on. It says the same of all other times that a socket, a request
   * or a response is given, of which others hear: what is open has limits of its own, and so have a head that has begun to come and the
   * rest of a body whose response is over.
   */
  #timeOut(socket: Connection): void {
    const state = socket[kState]
    const isKept = state === undefined || (state.open === 0 && !state.upgraded && state.last?.req.complete !== false)
    if (isKept && slicesOf(socket)?.hasBegun !== true) socket.destroy()
  }

  #release(socket: Connection): void {
    const state = socket[kState]
    if (state === undefined) return
    state.open--
    if (state.malformed !== undefined) this.#endMalformed(socket, state)
    // Node sets the time that it is kept, if there is one, and leaves what was set within the request otherwise.
    if (state.open === 0 && !state.upgraded && this.#server.keepAliveTimeout === 0) socket.setTimeout(0)
    if (this.#closing) this.#closeIfIdle(socket)
  }

  #endMalformed(socket: Connection, { malformed, open, last }: State): void {
    // It is closing by itself, behind a response that said so.
    if (!socket.writable) return
    // The body of the latest request, else what comes after it.
    const within = last?.req.complete === false
    const isNext = open === 0 || (within && open === 1)
    // A client that has left does not wait for its turn.
    if (!isNext && !socket.readableEnded) return
    // Whoever has a response, or a part of it, must not get another one.
    if (isNext && !(within && last.headersSent)) {
      socket.write(malformed as string)
      linger(socket)
      if (within) abandon(last)
    } else {
      socket.destroy()
    }
  }

  #closeIfIdle(socket: Connection): void {
    const state = socket[kState]
    if (state === undefined || state.open > 0 || state.upgraded) return
    // Who has begun a request gets an answer to it, and hears by that that it is the last one.
    if (state.last?.shouldKeepAlive !== false && slicesOf(socket)?.hasBegun === true) return
    socket.destroySoon()
  }

  /** WebSockets are told; those that do not heed it cut themselves a moment later. What is left of a response must not pass for all of it. */
  #destroyAll(): void {
    for (const socket of this.#all) if (!this.#hangUp(socket)) resetConnection(socket)
  }
}

function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`
}

const keepAliveDelay = 60_000

/** Has a response be over, as when its client has left, that something else was sent for. */
function abandon(res: ServerResponse): void {
  if (res.socket !== null) res.detachSocket(res.socket)
  res.destroy()
  res.emit('close')
}
