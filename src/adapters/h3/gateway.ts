import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { H3 } from 'h3'
import type { Pool } from '../../index.ts'
import { createApp } from './app.ts'
import { createCore } from './core.ts'
import { handle, handleUpgrade } from './entry.ts'
import { ignoreUpgrade, isIgnored } from './ignored-upgrade.ts'
import type { GatewayListener } from './listen.ts'
import { listen } from './listen.ts'
import type { GatewayOptions, ListenOptions } from './options.ts'
import type { Refusal } from './problem.ts'
import { assertListenable } from './server.ts'
import { assertPool, readListenOptions, readSettings } from './settings.ts'
import { clientOf } from './upgrade-client.ts'

/** Takes requests and WebSockets to the workers of their sessions. Made by {@link createGateway}. */
export interface Gateway {
  /**
   * An h3 app, to be mounted in another one (`app.mount('/tools', gateway.app)`) or served by any Node server of h3, srvx and
   * crossws. Upgrades need crossws's server plugin, or {@link Gateway.upgrade} on the server's `upgrade` event.
   */
  readonly app: H3
  /** Handles a request of a Node server: `http.createServer(gateway.handler)`. */
  readonly handler: (req: IncomingMessage, res: ServerResponse) => void
  /**
   * Listener for a Node server's `checkContinue` event: a client that waits for `100 Continue` gets it only once a worker is
   * there to take the body. Without this listener Node sends it at once.
   */
  readonly checkContinue: (req: IncomingMessage, res: ServerResponse) => void
  /**
   * Listener for a Node server's `upgrade` event. Resolves once the upgrade is decided, and never rejects. One to anything but a
   * WebSocket is ignored: the server gets its request again, without it.
   */
  readonly upgrade: (req: IncomingMessage, socket: Duplex, head: Buffer) => Promise<void>
  /** What is under way now. Synchronous, and made from counters. */
  stats(): GatewayStats
  /**
   * Listens on a port of its own.
   *
   * @throws `INVALID_OPTION`; an error with the code `EADDRINUSE`, `EACCES`, … when the port cannot be had.
   */
  listen(options?: ListenOptions): Promise<GatewayListener>
}

export interface GatewayStats {
  /** Requests with a session, from their head to the end of their response. */
  readonly requests: number
  /** WebSockets, and handshakes on their way to be some. */
  readonly webSockets: number
}

/**
 * Makes a gateway in front of `pool`: every request goes to the worker of its session, which is started when there is
 * none. The pool stays the caller's: close it after the gateway's listeners.
 *
 * @throws `INVALID_OPTION`
 * @example
 * const gateway = createGateway(pool, { sessionId: [fromHeader('x-session-id'), fromPath()] })
 * const listener = await gateway.listen({ port: 8080 })
 */
export function createGateway(pool: Pool, options: GatewayOptions): Gateway {
  assertPool(pool)
  const core = createCore(pool, readSettings(options))
  const { base } = core.settings
  const gateway: Gateway = {
    app: createApp(core),
    handler: (req, res) => handle(core, req, res, base, false),
    checkContinue: (req, res) => handle(core, req, res, base, true),
    upgrade: async (req, socket, head) => {
      if (isIgnored(req) && ignoreUpgrade(req, socket as Socket, head)) return
      await handleUpgrade(core, clientOf(core, req, socket as Socket, head), base)
    },
    stats: () => ({ ...core.underway }),
    listen: async (listenOptions = {}) => listen(handlers, core.turnBudget, readListenOptions(listenOptions)),
  }
  const handlers = {
    ...gateway,
    onMalformed: (refusal: Refusal) => core.reportMalformed(refusal),
  }
  return gateway
}

/**
 * Finds out before a pool is started what {@link createGateway} and {@link Gateway.listen} would refuse after it. Listens on the
 * port for a moment, and answers nobody there.
 *
 * @throws `INVALID_OPTION`; an error with the code `EADDRINUSE`, `EACCES`, … when the port cannot be had.
 */
export async function checkGateway(options: GatewayOptions, listenOptions: ListenOptions = {}): Promise<void> {
  readSettings(options)
  await assertListenable(readListenOptions(listenOptions))
}
