import type { IncomingMessage } from 'node:http'
import { isIP, isIPv6 } from 'node:net'
import { plainAddress } from './address.ts'
import { outermost } from './forwarded.ts'

/**
 * The client's address: that of its connection or, behind proxies that are trusted, the one that the outermost of them saw.
 *
 * @param proxies how many proxies in front add to `X-Forwarded-For`; `0`: none is trusted.
 */
export function clientAddress(req: IncomingMessage, proxies: number): string | undefined {
  const { remoteAddress } = req.socket
  const peer = remoteAddress === undefined ? undefined : plainAddress(remoteAddress)
  if (proxies === 0) return peer
  const listed = req.headers['x-forwarded-for']
  if (typeof listed !== 'string') return peer
  const address = plainAddress(withoutPort(outermost(listed, proxies)))
  // What is no address, such as `unknown`, is whatever somebody made up.
  return isIP(address) === 0 ? peer : address
}

/**
 * Whom the limits of the pool are for: the principal or, where nobody is authorised, the client's address, of IPv6 the /64
 * that a single client has (RFC 6177). Clients on this machine are not told apart and not limited: they are proxies, or the
 * developer.
 */
export function tenantOf(principal: string | undefined, address: string | undefined): string | undefined {
  if (principal !== undefined) return principal
  if (address === undefined || address === '::1' || address.startsWith('127.')) return undefined
  return `ip:${isIPv6(address) ? network64(address) : address}`
}

/** Some proxies add the port; RFC 7239 §6 puts IPv6 in brackets then. */
function withoutPort(address: string): string {
  const bracketed = /^\[([^\]]*)\]/.exec(address)?.[1]
  if (bracketed !== undefined) return bracketed
  return /^[\d.]+:\d+$/.test(address) ? address.slice(0, address.indexOf(':')) : address
}

/** The first four groups, in the one form that RFC 5952 §4 allows for each. */
function network64(address: string): string {
  const [front = '', back = ''] = address.split('%', 1)[0]?.toLowerCase().split('::') ?? []
  const groups = front === '' ? [] : front.split(':')
  const behind = back === '' ? [] : back.split(':')
  while (groups.length + behind.length < 8) groups.push('0')
  return [...groups, ...behind]
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')
}
