import { once } from 'node:events'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo, Server as NetServer, Socket } from 'node:net'
import { connect, createServer as createNetServer } from 'node:net'
import { onTestFinished } from 'vitest'
import { createGateway, fromHeader } from 'corral/h3'
import type { Gateway, GatewayFailure, GatewayListener, GatewayOptions } from 'corral/h3'
import { FakePool } from './_pool.ts'

export interface Scene {
  readonly pool: FakePool
  readonly gateway: Gateway
  readonly listener: GatewayListener
  readonly port: number
  /** What the gateway told `onError`. */
  readonly failures: GatewayFailure[]
}

/** A gateway that listens in front of a worker. Everything is closed at the end of the test, when no lease may be open. */
export async function openScene(worker: Handler | NetServer, options: Partial<GatewayOptions> = {}): Promise<Scene> {
  const port = await listenOn(typeof worker === 'function' ? httpWorker(worker) : worker)
  const pool = new FakePool({ host: '127.0.0.1', port })
  return { pool, ...(await openGateway(pool, options)) }
}

export async function openGateway(pool: FakePool, options: Partial<GatewayOptions> = {}): Promise<Omit<Scene, 'pool'>> {
  const failures: GatewayFailure[] = []
  const gateway = createGateway(pool.asPool, {
    sessionId: fromHeader('x-session-id'),
    onError: (failure) => failures.push(failure),
    ...options,
  })
  const listener = await gateway.listen({ port: 0 })
  onTestFinished(async () => {
    await listener.close({ grace: 0 })
    await pool.until(() => pool.open === 0)
  })
  return { gateway, listener, port: listener.port, failures }
}

/** Listens on a free port, and closes the server and all its connections at the end of the test. */
export async function listenOn(server: NetServer, path?: string): Promise<number> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {})
  })
  if (path === undefined) server.listen(0, '127.0.0.1')
  else server.listen(path)
  await once(server, 'listening')
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy()
    if (server.listening) await new Promise((resolve) => server.close(resolve))
  })
  return path === undefined ? (server.address() as AddressInfo).port : 0
}

export type Handler = (req: IncomingMessage, res: ServerResponse) => unknown

export function httpWorker(handler: Handler): Server {
  return createServer((req, res) => void handler(req, res))
}

/** A worker that answers each connection by hand, until the gateway closes it. */
export function rawWorker(onConnection: (connection: RawConnection) => Promise<unknown>): NetServer {
  return createNetServer({ allowHalfOpen: true }, (socket) => {
    onConnection(new RawConnection(socket)).catch(() => {})
  })
}

/** One end of a plain TCP connection, to be read piece by piece. */
export class RawConnection {
  readonly socket: Socket
  #received = ''
  #ended = false
  #watchers: (() => void)[] = []

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.#received += chunk.toString('latin1')
      this.#changed()
    })
    socket.on('error', () => {})
    for (const event of ['end', 'close']) {
      socket.on(event, () => {
        this.#ended = true
        this.#changed()
      })
    }
  }

  /** What has arrived and has not been taken. */
  get received(): string {
    return this.#received
  }

  send(text: string): void {
    this.socket.write(text, 'latin1')
  }

  /** Takes everything up to and including `mark`. */
  async take(mark: string): Promise<string> {
    await this.#until(() => this.#received.includes(mark) || this.#ended)
    const end = this.#received.indexOf(mark)
    if (end === -1) throw new Error(`Ended without ${JSON.stringify(mark)}: ${JSON.stringify(this.#received)}`)
    return this.takeBytes(end + mark.length)
  }

  async takeBytes(length: number): Promise<string> {
    await this.#until(() => this.#received.length >= length || this.#ended)
    if (this.#received.length < length) throw new Error(`Ended early: ${JSON.stringify(this.#received)}`)
    const taken = this.#received.slice(0, length)
    this.#received = this.#received.slice(length)
    return taken
  }

  /** Takes a head: the text up to the first empty line. */
  head(): Promise<string> {
    return this.take('\r\n\r\n')
  }

  /** Takes what is left, until the other end closes. */
  async rest(): Promise<string> {
    await this.#until(() => this.#ended)
    return this.takeBytes(this.#received.length)
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        this.#watchers.push(resolve)
      })
    }
  }

  #changed(): void {
    for (const resolve of this.#watchers.splice(0)) resolve()
  }
}

/** A client that speaks HTTP by hand. */
export async function dial(port: number): Promise<RawConnection> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  onTestFinished(() => {
    socket.destroy()
  })
  await once(socket, 'connect')
  return new RawConnection(socket)
}

/** The header fields of a raw head, names in lower case. */
export function fieldsOf(head: string): Record<string, string[]> {
  const fields: Record<string, string[]> = {}
  for (const line of head.trimEnd().split('\r\n').slice(1)) {
    const colon = line.indexOf(':')
    ;(fields[line.slice(0, colon).toLowerCase()] ??= []).push(line.slice(colon + 1).trim())
  }
  return fields
}

export function get(port: number, path: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`http://127.0.0.1:${port}${path}`, {
    headers: { 'x-session-id': 'red', ...headers },
    redirect: 'manual',
  })
}

/** Something that happens once, to be waited for. */
export interface Signal<T> {
  readonly promise: Promise<T>
  readonly resolve: (value: T) => void
}

export function signal<T = void>(): Signal<T> {
  let resolve!: (value: T) => void
  const promise = new Promise<T>((done) => {
    resolve = done
  })
  return { promise, resolve }
}

export async function textOf(req: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of req.setEncoding('latin1')) text += chunk as string
  return text
}

/** A WebSocket handshake of the session `red`, with `fields` besides. */
export function handshakeOf({ target = '/', host = 'a', fields = [] as readonly string[] } = {}): string {
  return [
    `GET ${target} HTTP/1.1`,
    `Host: ${host}`,
    'X-Session-Id: red',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    ...fields,
    '',
    '',
  ].join('\r\n')
}
