import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { isIPv6 } from 'node:net'
import { plainAddress } from './address.ts'
import { Refusal } from './problem.ts'

/** What the worker is told about one client connection: made once per connection and host, as it costs more than the rest. */
export interface Peer {
  readonly host: string | undefined
  readonly address: string | undefined
  readonly proto: 'http' | 'https'
  readonly port: string | undefined
  /** One element of `Forwarded` (RFC 7239 §4). */
  readonly element: string
}

const kPeer = Symbol('corral.peer')

/** `uri-host [ ":" port ]` (RFC 9110 §7.2, RFC 3986 §3.2.2), without user information (RFC 9110 §4.2.4). */
const hostAndPort = /^(?:\[[\w.:~!$&'()*+,;=-]+\]|(?:[\w.~!$&'()*+,;=-]|%[\dA-Fa-f]{2})+)(?::(\d*))?$/

/** @throws `REQUEST_INVALID` when `host` names no host: others would read it in ways of their own. */
export function peerOf(socket: Socket & { [kPeer]?: Peer; encrypted?: boolean }, host: string | undefined): Peer {
  const known = socket[kPeer]
  if (known !== undefined && known.host === host) return known
  if (host !== undefined && !isHost(host)) throw new Refusal('REQUEST_INVALID')
  const { remoteAddress } = socket
  const address = remoteAddress === undefined ? undefined : plainAddress(remoteAddress)
  const proto = socket.encrypted === true ? 'https' : 'http'
  let element = `for=${forwardedNode(address)}`
  if (host !== undefined) element += `;host=${quoteIfNeeded(host)}`
  element += `;proto=${proto}`
  const peer: Peer = { host, address, proto, port: socket.localPort?.toString(), element }
  socket[kPeer] = peer
  return peer
}

/** A port beyond those of TCP is one that some would cut to another number. */
function isHost(host: string): boolean {
  const match = hostAndPort.exec(host)
  if (match === null || Number(match[1] ?? 0) > 65_535) return false
  const literal = /^\[(.*)\]/.exec(host)?.[1]
  return literal === undefined || isIPv6(literal) || /^v[\da-f]+\../i.test(literal)
}

/** What the trusted proxies in front said. */
export interface Trusted {
  /** How many there are. */
  readonly proxies: number
  for?: string
  proto?: string
  host?: string
  port?: string
  prefix?: string
  forwarded?: string
}

/** Whether it is one of the fields that the gateway makes anew for the worker. */
export function isForwarded(lower: string): boolean {
  return keys.has(lower)
}

/** Takes note of a field of a trusted proxy, or passes it on when it is none that is added to. */
export function addTrusted(trusted: Trusted, headers: string[], name: string, value: string): void {
  const key = keys.get(name.toLowerCase())
  if (key === undefined) {
    headers.push(name, value)
    return
  }
  const before = trusted[key]
  trusted[key] = before === undefined ? value : `${before}, ${value}`
}

const keys: ReadonlyMap<string, 'for' | 'proto' | 'host' | 'port' | 'prefix' | 'forwarded'> = new Map([
  ['x-forwarded-for', 'for'],
  ['x-forwarded-proto', 'proto'],
  ['x-forwarded-host', 'host'],
  ['x-forwarded-port', 'port'],
  ['x-forwarded-prefix', 'prefix'],
  ['forwarded', 'forwarded'],
])

/** Where the client took the server to be: by what the proxies say that are trusted, else by its own connection. */
export interface Reached {
  readonly proto: 'http' | 'https'
  /** Host and, where one was named, port. */
  readonly host: string | undefined
}

export function reachedBy({ socket, headers }: IncomingMessage, proxies: number): Reached {
  const saidOf = (name: string) => {
    const listed = proxies > 0 ? headers[name] : undefined
    return typeof listed === 'string' ? outermost(listed, proxies) : ''
  }
  // Some proxies name the scheme of a WebSocket.
  const [, secure] = /^(?:http|ws)(s?)$/i.exec(saidOf('x-forwarded-proto')) ?? []
  const isSecure = secure === undefined ? (socket as { encrypted?: boolean }).encrypted === true : secure !== ''
  const own = headers.host ?? headers[':authority']?.toString()
  const host = saidOf('x-forwarded-host') || own
  const port = saidOf('x-forwarded-port')
  const isPortless = host !== undefined && hostAndPort.exec(host)?.[1] === undefined
  return { proto: isSecure ? 'https' : 'http', host: isPortless && /^\d+$/.test(port) ? `${host}:${port}` : host }
}

/** What the outermost of the trusted proxies said of the client. */
export function outermost(listed: string, proxies: number): string {
  return saidBy(listed, proxies)[0]?.trim() ?? ''
}

/**
 * What the trusted proxies said, the outermost first, in a field that each of them adds to or sets anew: what is in front of
 * theirs anyone can have made up.
 */
function saidBy(listed: string, proxies: number): string[] {
  return listed.split(',').slice(-proxies)
}

/** Adds what the worker is told about the client (RFC 7239, and the older fields that it replaces). */
export function pushForwarded(headers: string[], peer: Peer, prefix: string, trusted: Trusted = { proxies: 0 }): void {
  const address = trusted.for === undefined ? peer.address : `${trusted.for}, ${peer.address ?? 'unknown'}`
  if (address !== undefined) headers.push('X-Forwarded-For', address)
  headers.push('X-Forwarded-Proto', saidIn('proto', trusted) || peer.proto)
  const host = saidIn('host', trusted) || peer.host
  if (host !== undefined) headers.push('X-Forwarded-Host', host)
  // Beside the host and the scheme of another, the port of this connection would be nobody's.
  const isNamed = trusted.host !== undefined || trusted.proto !== undefined
  const port = saidIn('port', trusted) || (isNamed ? undefined : peer.port)
  if (port !== undefined) headers.push('X-Forwarded-Port', port)
  const path = outerPrefix(trusted) + prefix
  if (path !== '') headers.push('X-Forwarded-Prefix', path)
  headers.push('Forwarded', trusted.forwarded === undefined ? peer.element : `${trusted.forwarded}, ${peer.element}`)
}

function saidIn(key: 'proto' | 'host' | 'port', trusted: Trusted): string | undefined {
  const listed = trusted[key]
  return listed === undefined ? undefined : outermost(listed, trusted.proxies)
}

/** Each proxy cuts off what is in front by then: what they say makes one path. */
function outerPrefix({ prefix, proxies }: Trusted): string {
  if (prefix === undefined) return ''
  const said = saidBy(prefix, proxies)
  return said.map((path) => path.trim()).join('')
}

/** RFC 7239 §6: IPv6 in brackets and quotes, `unknown` where there is no address. */
function forwardedNode(address: string | undefined): string {
  if (address === undefined) return 'unknown'
  return address.includes(':') ? `"[${address}]"` : address
}

/** RFC 7239 §4: a value is a token or a quoted string. */
function quoteIfNeeded(value: string): string {
  return /^[\w!#$%&'*+.^`|~-]+$/.test(value) ? value : `"${value.replace(/["\\]/g, String.raw`\$&`)}"`
}
