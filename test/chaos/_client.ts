import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { Agent } from 'undici'
import { WebSocket } from 'ws'
import type { Journal } from './_journal.ts'
import type { Random } from './_random.ts'
import type { Ask, Stamp, Witness } from './_witness.ts'

export interface Exchange {
  readonly method?: 'GET' | 'POST'
  readonly path: string
  readonly headers?: Record<string, string>
  /** Bytes to send, that repeat the nonce. */
  readonly upload?: number
  /** Bytes that are to come, that repeat the nonce. */
  readonly bytes?: number
  /** Lines that are to come, each the nonce. */
  readonly lines?: number
  /** The client leaves after so many milliseconds. */
  readonly abortAfter?: number
}

/** How a WebSocket is left. */
export type Farewell = 'close' | 'terminate' | 'unanswered'

/** Refusals that a client may meet while workers fail. */
const expected = new Set([
  'QUEUE_FULL',
  'ACQUIRE_TIMEOUT',
  'WORKER_START_FAILED',
  'WORKER_START_TIMEOUT',
  'SESSION_LOST',
  'SESSION_ENDED',
  'UPSTREAM_FAILED',
  'UPSTREAM_TIMEOUT',
  'POOL_DRAINING',
  'POOL_CLOSED',
])

/** No proxy ends a WebSocket because its server is silent: that is for the client to do. */
const PATIENCE = 8_000

/** A client of a gateway, with a connection of its own. It reports what it gets to the witness. */
export class Client {
  readonly #origin: string
  readonly #witness: Witness
  readonly #journal: Journal
  readonly #random: Random
  readonly #agent: Agent

  constructor(origin: string, witness: Witness, journal: Journal, random: Random, connections = 1) {
    this.#origin = origin
    this.#witness = witness
    this.#journal = journal
    this.#random = random
    // It never gives up by itself: the gateway has to answer.
    this.#agent = new Agent({ connections, headersTimeout: 0, bodyTimeout: 0, connectTimeout: 0 })
  }

  async close(): Promise<void> {
    await this.#agent.destroy()
  }

  /** One request. @returns whether the answer came as a whole; never rejects. */
  async exchange(id: string, exchange: Exchange): Promise<boolean> {
    const ask = this.#witness.ask(id)
    const gone = new AbortController()
    const timer = exchange.abortAfter === undefined ? undefined : setTimeout(() => gone.abort(), exchange.abortAfter)
    this.#journal.tally('http request')
    try {
      return await this.#perform(ask, exchange, gone.signal)
    } catch (error) {
      const name = gone.signal.aborted ? 'aborted' : `cut ${(error as { code?: string }).code ?? String(error)}`
      this.#journal.tally(`http ${name}`)
      this.#journal.note(`client ${ask.nonce} ${exchange.path} of ${id}: ${name}`)
      return false
    } finally {
      clearTimeout(timer)
      this.#witness.unanswered(ask)
    }
  }

  /** A WebSocket with some messages, one after the other. @returns how many were answered; never rejects. */
  async converse(id: string, messages: number, farewell: Farewell): Promise<number> {
    const { path, headers } = this.#locate(id, '/socket')
    this.#journal.tally('socket')
    const socket = new WebSocket(`${this.#origin.replace('http', 'ws')}${path}`, { headers, perMessageDeflate: false })
    const handshake = this.#witness.ask(id)
    const inbox = new Inbox(socket, (code) => this.#refused(handshake, code))
    let answered = 0
    if ((await inbox.open) && farewell === 'unanswered') {
      const ask = this.#witness.ask(id)
      socket.send(JSON.stringify({ nonce: ask.nonce }))
      await delay(this.#random.between(0, 10))
      this.#witness.unansweredMessage(ask)
    } else if (await inbox.open) {
      while (answered < messages && (await this.#message(id, socket, inbox))) {
        answered++
        await delay(this.#random.between(0, 60))
      }
    }
    if (farewell === 'close' && !inbox.isTired) socket.close()
    else socket.terminate()
    // A worker that does not close in its turn is not waited for.
    const timer = setTimeout(() => socket.terminate(), 2_000)
    await inbox.closed
    clearTimeout(timer)
    return answered
  }

  async #message(id: string, socket: WebSocket, inbox: Inbox): Promise<boolean> {
    const ask = this.#witness.ask(id)
    this.#journal.tally('socket message')
    socket.send(JSON.stringify({ nonce: ask.nonce }))
    const text = await inbox.next(PATIENCE)
    if (text === undefined) {
      const outcome = inbox.isTired ? 'socket silent' : 'socket cut'
      this.#journal.tally(outcome)
      this.#journal.note(`client ${ask.nonce} of ${id}: ${outcome}`)
      this.#witness.unansweredMessage(ask)
      return false
    }
    this.#journal.tally('answer')
    this.#witness.answered(ask, JSON.parse(text) as Stamp)
    return true
  }

  async #perform(ask: Ask, exchange: Exchange, signal: AbortSignal): Promise<boolean> {
    const { upload, abortAfter } = exchange
    const { path, headers } = this.#locate(ask.id, exchange.path)
    const isSlow = abortAfter !== undefined
    const {
      statusCode,
      headers: answer,
      body,
    } = await this.#agent.request({
      origin: this.#origin,
      method: exchange.method ?? 'GET',
      path,
      headers: { ...headers, ...exchange.headers, 'x-nonce': ask.nonce },
      body:
        upload === undefined
          ? null
          : isSlow
            ? Readable.from(trickle(ask.nonce, upload))
            : Buffer.alloc(upload, ask.nonce),
      signal,
    })
    const stamp = answer['x-chaos']
    // Before the body: it may be cut, and the request has been counted.
    if (typeof stamp === 'string') this.#witness.answered(ask, JSON.parse(stamp) as Stamp)
    const received = Buffer.from(await body.arrayBuffer())
    if (typeof stamp !== 'string') {
      const code = codeOf(statusCode, answer['content-type'], received)
      this.#refused(ask, code)
      return false
    }
    this.#journal.tally('answer')
    this.#verify(ask, exchange, received, answer)
    return true
  }

  #verify({ id, nonce }: Ask, exchange: Exchange, body: Buffer, headers: Record<string, unknown>): void {
    const { bytes, lines, upload, path } = exchange
    const isPoisoned = JSON.parse(String(headers['x-chaos'])).nonce === 'poison'
    if (isPoisoned) return
    const about = `${path} of ${id}, ${nonce}: ${body.length} bytes`
    const whole = bytes === undefined ? undefined : Buffer.alloc(bytes, nonce)
    const text = lines === undefined ? undefined : Buffer.from(`${nonce}\n`.repeat(lines))
    for (const wanted of [whole, text]) {
      if (wanted === undefined || body.equals(wanted)) continue
      const isCut = body.length < wanted.length && wanted.subarray(0, body.length).equals(body)
      this.#journal.violate(isCut ? 'cut answers taken as whole' : 'responses mixed between sessions', about)
    }
    if (upload !== undefined && (headers['x-size'] !== String(upload) || headers['x-intact'] !== 'true')) {
      this.#journal.violate('responses mixed between sessions', `${about}: the worker got another upload`)
    }
  }

  #refused(ask: Ask, code: string): void {
    this.#journal.tally(`refused: ${code}`)
    this.#journal.note(`client ${ask.nonce} of ${ask.id}: ${code}`)
    if (code === 'SESSION_LOST') this.#witness.toldLost(ask)
    if (!expected.has(code)) this.#journal.violate('unexpected answers', `${code} to ${ask.nonce} of ${ask.id}`, ask.id)
  }

  /** Either way of naming a session. */
  #locate(id: string, path: string): { path: string; headers: Record<string, string> } {
    return this.#random.chance(0.5)
      ? { path: `/s/${id}${path}`, headers: {} }
      : { path, headers: { 'x-session-id': id } }
  }
}

/** The messages of a WebSocket, to be waited for. */
class Inbox {
  readonly open: Promise<boolean>
  readonly closed: Promise<void>
  /** Whether a message was waited for in vain. */
  isTired = false
  readonly #messages: string[] = []
  #wake: (() => void) | undefined
  #isOver = false

  constructor(socket: WebSocket, onRefused: (code: string) => void) {
    socket.on('error', () => {}) // A close follows.
    socket.on('message', (data) => {
      this.#messages.push((data as Buffer).toString())
      this.#wake?.()
    })
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#isOver = true
        this.#wake?.()
        resolve()
      })
    })
    this.open = new Promise((resolve) => {
      socket.once('open', () => resolve(true))
      socket.once('close', () => resolve(false))
      socket.once('unexpected-response', (request, response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', () => {})
        response.on('close', () => {
          if (response.complete) {
            onRefused(codeOf(response.statusCode ?? 0, response.headers['content-type'], Buffer.concat(chunks)))
          }
          request.destroy()
          socket.terminate()
        })
      })
    })
  }

  /** @returns `undefined` when the connection is over, or nothing came in time. */
  async next(patience: number): Promise<string | undefined> {
    const message = this.#messages.shift()
    if (message !== undefined || this.#isOver) return message
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, patience)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.#wake = undefined
    const late = this.#messages.shift()
    this.isTired = late === undefined && !this.#isOver
    return late
  }
}

/** A body that takes its time. */
async function* trickle(nonce: string, size: number): AsyncGenerator<Buffer> {
  const body = Buffer.alloc(size, nonce)
  const step = Math.ceil(size / 8)
  for (let i = 0; i < size; i += step) {
    yield body.subarray(i, i + step)
    await delay(20)
  }
}

function codeOf(status: number, type: unknown, body: Buffer): string {
  if (type !== 'application/problem+json') return `${status} ${JSON.stringify(body.toString('latin1').slice(0, 40))}`
  return (JSON.parse(body.toString()) as { code: string }).code
}
