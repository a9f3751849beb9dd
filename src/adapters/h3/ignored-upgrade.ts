import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { maxCollected } from './headers.ts'
import { isAnswering } from './upgrade-client.ts'

/**
 * Whether an upgrade is none for the gateway. RFC 9110 §7.8: one may be ignored, and in HTTP/1.0 must be. Some clients offer `h2c`
 * with ordinary requests (Java's does by default). What cannot be read in full cannot go in again.
 */
export function isIgnored({ method, headers, httpVersionMinor, rawHeaders }: IncomingMessage): boolean {
  if (method === 'CONNECT' || rawHeaders.length >= maxCollected) return false
  return httpVersionMinor === 0 || headers.upgrade?.trim().toLowerCase() !== 'websocket'
}

/**
 * Serves the request of an upgrade that is ignored as what it is without. Node takes every upgrade out of HTTP once anyone
 * listens for them: without its `Upgrade` field it goes in again.
 *
 * @returns `false` when that cannot be: the connection is no Node server's, or an earlier response is still on its way.
 */
export function ignoreUpgrade(req: IncomingMessage, socket: Socket & { server?: Server }, head: Buffer): boolean {
  // Where Node keeps the server that a connection was accepted by.
  const { server } = socket
  if (server === undefined || isAnswering(socket)) return false
  let text = `${req.method} ${req.url} HTTP/${req.httpVersion}\r\n`
  const raw = req.rawHeaders
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i]?.toLowerCase() !== 'upgrade') text += `${raw[i]}: ${raw[i + 1]}\r\n`
  }
  socket.unshift(Buffer.concat([Buffer.from(`${text}\r\n`, 'latin1'), head]))
  return server.emit((socket as Partial<TLSSocket>).encrypted === true ? 'secureConnection' : 'connection', socket)
}
