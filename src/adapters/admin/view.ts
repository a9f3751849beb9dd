import type { SessionInfo, WorkerAddress, WorkerDetails } from '../../index.ts'
import type * as z from 'zod'
import type * as schemas from './schemas.ts'

/** How a session is shown. @param now in milliseconds since the epoch */
export function showSession(info: SessionInfo, now: number): z.infer<typeof schemas.session> {
  const { id, token, workerId, state, startedAt, idleSince, leases, tenant } = info
  return {
    id,
    token,
    workerId,
    state,
    startedAt: toTime(startedAt),
    age: since(startedAt, now),
    idleFor: idleSince === undefined ? undefined : since(idleSince, now),
    connections: leases,
    tenant,
  }
}

/** How a worker is shown, without its output. */
export function showWorker(details: WorkerDetails, now: number): Omit<z.infer<typeof schemas.workerDetails>, 'output'> {
  const { id, state, pid, address, incarnation, startedAt, sessionId } = details
  return {
    id,
    state,
    pid,
    address: address && toText(address),
    incarnation,
    ...(startedAt !== undefined && { startedAt: toTime(startedAt), age: since(startedAt, now) }),
    sessionId,
  }
}

function toTime(epoch: number): string {
  return new Date(epoch).toISOString()
}

/** Never negative: the system's clock may have been set back. */
function since(epoch: number, now: number): number {
  return Math.max(0, Math.round(now - epoch))
}

function toText(address: WorkerAddress): string {
  if ('socketPath' in address) return address.socketPath
  const { host, port } = address
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}
