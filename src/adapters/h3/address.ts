import { isIPv6 } from 'node:net'

/**
 * An address in the form that tells it from others: an IPv4 client of a dual-stack listener is an IPv4 client
 * (RFC 4291 §2.5.5.2), however the kernel or a proxy spells it.
 */
export function plainAddress(address: string): string {
  // What else there is has no second meaning.
  if (!/^[0:]/.test(address) || !isIPv6(address)) return address
  const { hostname } = new URL(`http://[${address.split('%', 1)[0]}]`)
  const [, high, low] = /^\[::ffff:([\da-f]+):([\da-f]+)\]$/.exec(hostname) ?? []
  if (high === undefined || low === undefined) return hostname.slice(1, -1)
  return [high, low]
    .map((group) => Number.parseInt(group, 16))
    .flatMap((group) => [group >> 8, group & 0xff])
    .join('.')
}
