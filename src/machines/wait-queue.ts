import type { WaitingSession } from './events.ts'
import { emptyList, find, first, items, put, remove as without, type Order, type SortedList } from './sorted-list.ts'

/** The sessions of one tenant that wait, in order of arrival. */
interface Line {
  readonly tenant: string
  /** The round in which its first session is served. */
  readonly round: number
  readonly sessions: SortedList<WaitingSession>
}

/** The first session of a line, as it stands in the order of service. */
interface Head {
  readonly round: number
  readonly token: number
  readonly tenant: string
}

/**
 * The sessions that wait for a worker. Those of one tenant are served in order of arrival; tenants take turns, one session
 * each a round, so that a tenant with many delays the others by one session a round and no more. Those without a tenant
 * are one tenant among the others: when no session has one, the order is that of arrival.
 *
 * This is self-clocked fair queueing (S. J. Golestani, "A self-clocked fair queueing scheme for broadband applications",
 * INFOCOM 1994) of sessions that weigh the same: a session's round is its finish tag, the round of the one that was taken
 * last is the virtual time. Only the first session of a line has a tag. So what leaves the queue unserved costs its tenant
 * no turn, and a tenant of which nothing waits need not be remembered: its next tag is beyond the virtual time anyway.
 *
 * Immutable plain JSON, like the lists that it is made of; every step costs O(√n).
 */
export interface WaitQueue {
  readonly size: number
  /** The latest round that a session was taken from. */
  readonly round: number
  /** By tenant. */
  readonly lines: SortedList<Line>
  /** In order of service: by round, those of one round in order of arrival. */
  readonly heads: SortedList<Head>
}

export const emptyQueue: WaitQueue = { size: 0, round: 0, lines: emptyList, heads: emptyList }

/**
 * Adds a session behind those of its tenant that came before it. One that is put back brings the round that it was taken
 * from, and takes its old place. A token in the queue stays once.
 */
export function enqueue(queue: WaitQueue, session: WaitingSession, round = queue.round + 1): WaitQueue {
  const tenant = tenantOf(session)
  const line = find(queue.lines, byTenant, tenant)
  if (!line) return withLine(queue, undefined, { tenant, round, sessions: put(emptyList, byToken, session) })
  if (find(line.sessions, byToken, session)) return queue
  return withLine(queue, line, {
    tenant,
    round: Math.min(line.round, round),
    sessions: put(line.sessions, byToken, session),
  })
}

/** The session that is to be served next, the round that it is in, and the queue without it. */
export function dequeue(
  queue: WaitQueue,
): { readonly session: WaitingSession; readonly round: number; readonly queue: WaitQueue } | undefined {
  const head = first(queue.heads)
  const line = head && find(queue.lines, byTenant, head.tenant)
  const session = line && first(line.sessions)
  if (!session) return undefined
  const { tenant, round } = line
  const rest = withLine(queue, line, { tenant, round: round + 1, sessions: without(line.sessions, byToken, session) })
  return { session, round, queue: { ...rest, round: Math.max(queue.round, round) } }
}

/** The queue without that session; the same queue when it is not in it. */
export function remove(queue: WaitQueue, session: Pick<WaitingSession, 'token' | 'tenant'>): WaitQueue {
  const line = find(queue.lines, byTenant, tenantOf(session))
  if (!line) return queue
  const sessions = without(line.sessions, byToken, session)
  return sessions === line.sessions ? queue : withLine(queue, line, { ...line, sessions })
}

/** Every session in the queue, in order of arrival. */
export function entries(queue: WaitQueue): WaitingSession[] {
  return items(queue.lines)
    .flatMap(({ sessions }) => items(sessions))
    .toSorted((a, b) => a.token - b.token)
}

/** Puts the line in the place of what it was before. A line that became empty goes. */
function withLine(queue: WaitQueue, before: Line | undefined, after: Line): WaitQueue {
  const [old, head] = [before && headOf(before), headOf(after)]
  const size = queue.size - (before?.sessions.size ?? 0) + after.sessions.size
  const lines = head ? put(queue.lines, byTenant, after) : without(queue.lines, byTenant, after.tenant)
  if (old && head && inService(old, head) === 0) return { ...queue, size, lines }
  let { heads } = queue
  if (old) heads = without(heads, inService, old)
  if (head) heads = put(heads, inService, head)
  return { ...queue, size, lines, heads }
}

function headOf({ tenant, round, sessions }: Line): Head | undefined {
  const session = first(sessions)
  return session && { round, token: session.token, tenant }
}

/** Sessions that belong to nobody have a line too. */
function tenantOf({ tenant = '' }: { readonly tenant?: string | undefined }): string {
  return tenant
}

const byToken: Order<{ readonly token: number }> = (a, b) => a.token - b.token
const inService: Order<Head> = (a, b) => a.round - b.round || a.token - b.token
const byTenant: Order<Line, string | Line> = (line, key) => {
  const tenant = typeof key === 'string' ? key : key.tenant
  return line.tenant < tenant ? -1 : line.tenant > tenant ? 1 : 0
}
