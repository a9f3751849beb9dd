import type { IncomingMessage } from 'node:http'

const requestCost = 1024
const fieldCost = 64

/** What a request takes besides the bytes of its head, however few those are, in bytes. */
export function costOf({ rawHeaders }: IncomingMessage): number {
  return Math.max(requestCost, (rawHeaders.length / 2) * fieldCost)
}
