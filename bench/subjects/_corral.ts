import { createPool } from 'corral'
import { createGateway, fromHeader } from 'corral/h3'
import { MemoryBackend } from '../backend.ts'
import type { Site } from '../proxy.ts'

/** More than any section opens on one session: peers have no such limit. */
const requestsPerSession = 10_000

/** A gateway whose sessions have the upstreams of the site for workers: what is measured is the same as with the peers. */
export async function openGateway({ ports }: Site) {
  const numbers = Object.values(ports)
  const worker = new MemoryBackend(numbers.map((port) => ({ host: '127.0.0.1', port })))
  const pool = await createPool({ worker, size: { min: numbers.length, max: numbers.length } })
  return {
    pool,
    gateway: createGateway(pool, { sessionId: fromHeader('x-session-id'), client: { requestsPerSession } }),
  }
}
