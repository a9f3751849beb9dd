import type { Socket } from 'node:net'
import type { Lease } from '../../index.ts'
import { resetConnection } from '../clients/reset.ts'
import type { Flow, TurnBudget } from '../clients/turn-budget.ts'
import { FrameScanner, closeFrame, pingFrame } from './frames.ts'
import { divert } from './intake.ts'
import { Refusal, problems, toRefusal } from './problem.ts'
import type { Severable } from './upstream.ts'
import { clientStalled, stalled } from './upstream.ts'
import { deathNotice } from './verdict.ts'

interface TunnelOptions {
  /** Longest time that the worker may hold the client back and be silent; `0`: no limit. */
  readonly workerTimeout: number
  /** Longest time that the client may hold the worker back; `0`: no limit. */
  readonly clientTimeout: number
  readonly budget: TurnBudget
  /** Told when the gateway cuts the tunnel. */
  readonly onCut: (refusal: Refusal) => void
}

const kTunnel = Symbol('corral.tunnel')

type ClientSocket = Socket & { [kTunnel]?: Tunnel }

/**
 * Two connections joined byte for byte, once the upgrade is through, so that sub-protocols, extensions, pings and close
 * codes are what the two ends make of them; a side that does not read holds the other one back. The heads of frames are
 * looked at only so that the gateway can say goodbye, with a close frame, where it has to cut the tunnel itself.
 */
export class Tunnel implements Severable {
  readonly #client: ClientSocket
  readonly #worker: Socket
  readonly #lease: Lease
  readonly #onCut: (refusal: Refusal) => void
  readonly #toClient = new FrameScanner()
  readonly #toWorker = new FrameScanner()
  #phase: 'open' | 'severed' = 'open'
  #linger: NodeJS.Timeout | undefined
  /** What becomes of the client's connection when no reason for the worker's leaving has come to light. */
  #finish: (() => void) | undefined
  #notice: NodeJS.Timeout | undefined
  /** Bytes of the client at the last beat. */
  #heard = 0
  /** Beats since something came from the client, or since it was pinged. */
  #silentBeats = 0
  #pinged = false

  /** @param early bytes of each end that came with the handshake, and have been sent on. */
  constructor(
    client: Socket,
    worker: Socket,
    lease: Lease,
    early: { readonly client: readonly Buffer[]; readonly worker: Buffer },
    { workerTimeout, clientTimeout, budget, onCut }: TunnelOptions,
  ) {
    this.#client = client
    this.#worker = worker
    this.#lease = lease
    this.#onCut = onCut
    this.#client[kTunnel] = this
    for (const chunk of early.client) this.#toWorker.feed(chunk)
    this.#toClient.feed(early.worker)
    for (const socket of [client, worker]) {
      socket.setTimeout(0)
      socket.setNoDelay(true)
      // A peer that vanished without a word is found out, so that its session can become idle.
      socket.setKeepAlive(true, keepAliveDelay)
    }
    this.#pump(client, worker, this.#toWorker, budget, workerTimeout)
    this.#pump(worker, client, this.#toClient, budget, clientTimeout)
    worker.on('timeout', () => this.sever(stalled()))
    client.on('timeout', () => this.sever(clientStalled()))
    client.on('end', () => {
      worker.end()
      this.#bound()
    })
    client.on('close', () => this.#onClosed(() => worker.destroySoon()))
    worker.on('end', () => {
      this.#afterNotice(() => client.end())
      this.#bound()
    })
    worker.on('close', () => this.#onClosed(() => this.#afterNotice(() => client.destroySoon())))
  }

  /** Cuts both connections; the client is told why by a close frame, if it can take one. */
  sever(cause: unknown): void {
    if (this.#phase === 'severed') return
    this.#phase = 'severed'
    const refusal = toRefusal(cause)
    const client = this.#client
    this.#worker.destroy()
    if (!client.destroyed) this.#onCut(refusal)
    // Who has not read what came before would not read this.
    if (client.writableLength > 0 || !this.#canInsert()) {
      if (refusal.code === 'CLIENT_TIMEOUT') resetConnection(client)
      else client.destroy()
      return
    }
    const { close, title } = problems[refusal.code]
    client.end(closeFrame(close, title))
    // Unread bytes would turn the close into a reset, which can take the frame back from under the client.
    client.resume()
    this.#linger = setTimeout(() => client.destroy(), goodbyeTimeout).unref()
  }

  /** Pings the client if nothing has come from it for so many beats; cuts it when it has not answered that for as many, either. */
  beat(patience: number): void {
    const { bytesRead } = this.#client
    const isSilent = bytesRead === this.#heard
    this.#heard = bytesRead
    // Whom the worker holds back cannot be heard.
    if (!isSilent || this.#client.isPaused()) {
      this.#silentBeats = 0
      this.#pinged = false
      return
    }
    this.#silentBeats++
    if (this.#silentBeats < patience) return
    if (this.#pinged) {
      this.sever(clientStalled())
      return
    }
    // A close frame of the worker's asks as a ping does, and nothing may follow it (RFC 6455 §5.5.1).
    const isAsked = this.#toClient.closed
    if (!isAsked && !this.#canInsert()) return
    this.#silentBeats = 0
    this.#pinged = true
    if (!isAsked) this.#client.write(pingFrame)
  }

  #pump(from: Socket, to: Socket, scanner: FrameScanner, budget: TurnBudget, stallTimeout: number): void {
    const flow: Flow = {
      goOn: () => {
        if (!to.writableNeedDrain) from.resume()
      },
    }
    divert(from, to, (chunk) => {
      if (this.#phase === 'severed') return
      // A pong may be the answer to the gateway's own ping: it says nothing of the session's use.
      if (scanner.feed(chunk)) this.#lease.touch()
      budget.spend(chunk.length)
      const isTaken = to.write(chunk)
      if (isTaken && !budget.isSpent) return
      from.pause()
      if (isTaken) budget.hold(flow)
      else if (stallTimeout > 0) to.setTimeout(stallTimeout)
    })
    to.on('drain', () => {
      if (stallTimeout > 0) to.setTimeout(0)
      if (budget.isSpent) budget.hold(flow)
      else from.resume()
    })
    from.on('error', () => {})
    from.resume()
  }

  /** Whether a frame of the gateway's own can go to the client now. */
  #canInsert(): boolean {
    return this.#toClient.atBoundary && !this.#toClient.closed && this.#client.writable
  }

  /**
   * A worker that goes without a close frame may be dying, which the pool is about to tell: then the client is to hear
   * that. Else it sees what it would see without a gateway.
   */
  #afterNotice(finish: () => void): void {
    if (this.#phase === 'severed') return
    if (!this.#canInsert()) {
      finish()
      return
    }
    this.#finish = finish
    this.#notice ??= setTimeout(() => {
      if (this.#phase === 'open') this.#finish?.()
    }, deathNotice)
  }

  /** One end is closed: what has arrived from it still goes to the other one, which has a while to finish. */
  #onClosed(finish: () => void): void {
    if (this.#client.closed && this.#worker.closed) {
      clearTimeout(this.#linger)
      clearTimeout(this.#notice)
      return
    }
    if (this.#phase === 'open') finish()
    this.#bound()
  }

  #bound(): void {
    this.#linger ??= setTimeout(() => {
      this.#client.destroy()
      this.#worker.destroy()
    }, lingerTimeout).unref()
  }
}

/** Says goodbye to the client of a tunnel and cuts it; `false`: the connection carries none. */
export function hangUp(socket: ClientSocket): boolean {
  const tunnel = socket[kTunnel]
  if (tunnel === undefined) return false
  tunnel.sever(new Refusal('SESSION_ENDED'))
  return true
}

const keepAliveDelay = 60_000
const lingerTimeout = 5_000
/** What a client gets to answer a close frame. */
const goodbyeTimeout = 1_000
