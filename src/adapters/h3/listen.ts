import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { Server as NetServer } from 'node:net'
import type { Duplex } from 'node:stream'
import { promisify } from 'node:util'
import { Connections } from '../clients/connections.ts'
import type { TurnBudget } from '../clients/turn-budget.ts'
import { authorityHost } from '../listen-error.ts'
import { malformedAnswer, malformedCode } from '../malformed.ts'
import { isIgnored } from './ignored-upgrade.ts'
import { Refusal, problemBody } from './problem.ts'
import { openServer } from './server.ts'
import type { ListenSettings } from './settings.ts'
import { readGrace } from './settings.ts'
import { hangUp } from './tunnel.ts'

/** A listening gateway. */
export interface GatewayListener extends AsyncDisposable {
  /** Such as `http://127.0.0.1:8080`, or `https:` with TLS, without a slash at the end. */
  readonly url: string
  readonly port: number
  readonly server: Server
  /**
   * Stops accepting connections, closes idle ones at once, and the others when their responses are over or, at the latest,
   * when the grace is. Upgraded connections have the same grace. Resolves once all are closed. A later
   * call with a shorter grace cuts the first one short.
   */
  close(options?: CloseOptions): Promise<void>
}

export interface CloseOptions {
  /** Time that responses and upgraded connections get to finish, in milliseconds. `0` cuts them now. @default 10_000 */
  readonly grace?: number | undefined
}

interface Handlers {
  handler(req: IncomingMessage, res: ServerResponse): void
  checkContinue(req: IncomingMessage, res: ServerResponse): void
  upgrade(req: IncomingMessage, socket: Duplex, head: Buffer): Promise<void>
  /** Told of what was refused before there was a request. */
  onMalformed(refusal: Refusal): void
}

export async function listen(
  handlers: Handlers,
  turnBudget: TurnBudget,
  settings: ListenSettings,
): Promise<GatewayListener> {
  const server = await openServer(settings)
  const { port } = server.address() as AddressInfo
  const connections = new Connections(server, {
    budget: turnBudget,
    headersTimeout: settings.headersTimeout,
    onLate: () =>
      handlers.onMalformed(new Refusal('CLIENT_TIMEOUT', { cause: new Error('The TLS handshake took too long') })),
    hangUp,
  })
  server.on('request', (req, res) => {
    connections.begin(req, res)
    handlers.handler(req, res)
  })
  const expecting = (req: IncomingMessage, res: ServerResponse) => {
    connections.begin(req, res)
    handlers.checkContinue(req, res)
  }
  // Node tells the one that it knows of from all others.
  server.on('checkContinue', expecting)
  server.on('checkExpectation', expecting)
  const upgrade = (req: IncomingMessage, socket: Duplex, head: Buffer) => {
    if (isIgnored(req)) connections.ignored(socket as Socket)
    else connections.upgraded(socket as Socket)
    void handlers.upgrade(req, socket, head)
  }
  server.on('upgrade', upgrade)
  // Where it is refused, as no WebSocket. Node would close the connection without an answer.
  server.on('connect', upgrade)
  server.on('clientError', (error: Error, socket: Duplex) => {
    const hasEnded = (error as NodeJS.ErrnoException).code === 'HPE_INVALID_EOF_STATE'
    // Of a connection that was reset within a request, Node misses the rest all the same.
    if (hasEnded && socket.destroyed) return
    const code = malformedCode(error)
    const refusal = code && new Refusal(code, { cause: error })
    // Who ends within a body has left, which its request tells.
    const isTold = hasEnded && connections.isWithinBody(socket as Socket)
    if (refusal !== undefined && !isTold) handlers.onMalformed(refusal)
    connections.refuse(socket as Socket, refusal && malformedAnswer(refusal.status, problemBody(refusal)))
  })
  let stopped: Promise<void> | undefined
  const close = async (options: CloseOptions = {}) => {
    const grace = readGrace(options, 10_000)
    stopped ??= stop(server)
    await connections.close(grace)
    await stopped
  }
  const { hostname, tls } = settings
  return {
    url: `${tls === false ? 'http' : 'https'}://${authorityHost(hostname)}:${port}`,
    port,
    server,
    close,
    [Symbol.asyncDispose]: () => close(),
  }
}

/** Accepts nothing more; resolves when the last connection is closed. */
async function stop(server: Server): Promise<void> {
  // Not `server.close` of HTTP, which closes connections by its own rules.
  await promisify(NetServer.prototype.close.bind(server) as typeof server.close)()
  // Nothing is left of the server but a timer.
  server.close(() => {})
}
