import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { isIPv4, isIPv6 } from 'node:net'
import type { H3Event } from 'h3'
import { AdminProblem } from './problem.ts'

/**
 * Who may call an operation.
 *
 * - `anyone`: no id is in the answer.
 * - `reader`: the answer has ids, which open the door to a session. With the token; where none is configured, from this machine.
 * - `writer`: it changes something. Only with the token.
 */
export type Access = 'anyone' | 'reader' | 'writer'

/**
 * A page of any origin can make a browser send requests to addresses of the local network, and after its own name was bound to
 * such an address it may even read the answers. Such a request has that name as its `Host`, and the page's `Origin`.
 *
 * @throws `REQUEST_INVALID`, `HOST_REFUSED`, `ORIGIN_REFUSED`
 */
export function assertLocal(event: H3Event, hosts: ReadonlySet<string>): void {
  const { headers } = event.req
  assertOneHost(nodeRequest(event))
  // Browsers send both alike; a target in absolute-form names a host of its own (RFC 9112 §3.2.2).
  const target = hostOf(event)
  const host = (headers.get('host') ?? target).toLowerCase()
  for (const named of [host, target.toLowerCase()]) {
    const name = named.replace(/:\d+$/, '')
    if (!isAddress(name) && name !== 'localhost' && !hosts.has(name)) throw new AdminProblem('HOST_REFUSED')
  }
  const origin = headers.get('origin')
  if (origin !== null && origin !== `${event.url.protocol}//${host}`) throw new AdminProblem('ORIGIN_REFUSED')
}

/** RFC 9112 §3.2: only HTTP/1.0 may leave it out, and nobody may send two. */
function assertOneHost(req: IncomingMessage | undefined): void {
  if (req === undefined || req.httpVersion === '2.0') return
  const hosts = req.headersDistinct['host']?.length ?? 0
  if (hosts > 1 || (hosts === 0 && req.httpVersion !== '1.0')) throw new AdminProblem('REQUEST_INVALID')
}

/** @throws `TOKEN_NOT_CONFIGURED`, `TOKEN_REQUIRED` */
export function assertAccess(event: H3Event, access: Access, digest: Buffer | undefined): void {
  if (access === 'anyone') return
  if (digest === undefined) {
    if (access === 'writer' || !isFromHere(event)) throw new AdminProblem('TOKEN_NOT_CONFIGURED')
    return
  }
  const given = /^Bearer +(\S+)$/i.exec(event.req.headers.get('authorization') ?? '')?.[1]
  // Digests are of one length, and what their comparison takes tells nothing of the token.
  if (given !== undefined && timingSafeEqual(digestOf(given), digest)) return
  // RFC 6750 §3: without a token nothing is said of it.
  const error = given === undefined ? '' : ', error="invalid_token"'
  throw new AdminProblem('TOKEN_REQUIRED', { headers: { 'www-authenticate': `Bearer realm="corral"${error}` } })
}

export function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

function hostOf(event: H3Event): string {
  try {
    return event.url.host
  } catch {
    // Such as `localhost:99999`: of that no URL can be made.
    throw new AdminProblem('HOST_REFUSED')
  }
}

function isAddress(name: string): boolean {
  return isIPv4(name) || (name.startsWith('[') && name.endsWith(']') && isIPv6(name.slice(1, -1)))
}

/** Whether the other end is on this machine; requests that come without a connection are made by this process. */
function isFromHere(event: H3Event): boolean {
  const req = nodeRequest(event)
  if (req === undefined) return true
  const peer = req.socket.remoteAddress?.replace(/^::ffff:/, '') ?? ''
  return peer === '::1' || peer.startsWith('127.')
}

function nodeRequest(event: H3Event): IncomingMessage | undefined {
  return (event.runtime?.node as { readonly req: IncomingMessage } | undefined)?.req
}
