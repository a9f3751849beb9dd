/** A session that waits for a worker. */
export interface WaitingSession {
  readonly sessionId: string
  /** Number of the session, in order of arrival: what the queue is ordered by. */
  readonly token: number
}

/**
 * The sessions that wait for a worker, in order of arrival. Immutable plain JSON, so that it can live in a machine's
 * context; kept in chunks, so that adding, taking and deleting one of many thousands copies a few hundred entries and
 * not all of them.
 */
export interface WaitQueue {
  readonly size: number
  readonly chunks: readonly (readonly WaitingSession[])[]
}

/** Largest chunk: near the square root of the longest queue one expects. */
const chunkSize = 128

export const emptyQueue: WaitQueue = { size: 0, chunks: [] }

/** Adds a session behind all with a smaller token; one that is put back takes its old place. A token in it stays once. */
export function enqueue(queue: WaitQueue, entry: WaitingSession): WaitQueue {
  const at = chunkOf(queue, entry.token)
  const chunk = queue.chunks[at]
  if (chunk === undefined) return { size: 1, chunks: [[entry]] }
  const index = positionIn(chunk, entry.token)
  if (chunk[index]?.token === entry.token) return queue
  const grown = [...chunk.slice(0, index), entry, ...chunk.slice(index)]
  const halves =
    grown.length <= chunkSize
      ? [grown]
      : index === chunk.length && at === queue.chunks.length - 1
        ? [chunk, [entry]]
        : [grown.slice(0, chunkSize / 2), grown.slice(chunkSize / 2)]
  return { size: queue.size + 1, chunks: queue.chunks.toSpliced(at, 1, ...halves) }
}

/** The session that has waited longest. */
export function first(queue: WaitQueue): WaitingSession | undefined {
  return queue.chunks[0]?.[0]
}

/** The queue without the session that `token` names; the same queue when it is not in it. */
export function remove(queue: WaitQueue, token: number): WaitQueue {
  const at = chunkOf(queue, token)
  const chunk = queue.chunks[at]
  if (chunk === undefined) return queue
  const index = positionIn(chunk, token)
  if (chunk[index]?.token !== token) return queue
  const rest = chunk.toSpliced(index, 1)
  return { size: queue.size - 1, chunks: queue.chunks.toSpliced(at, 1, ...(rest.length === 0 ? [] : [rest])) }
}

/** Every session in the queue, longest waiting first. */
export function entries(queue: WaitQueue): WaitingSession[] {
  return queue.chunks.flat()
}

/** Index of the chunk that holds `token` or would: the last one that does not begin behind it. */
function chunkOf(queue: WaitQueue, token: number): number {
  return Math.max(0, partition(queue.chunks.length, (i) => (queue.chunks[i]?.[0]?.token ?? 0) <= token) - 1)
}

/** Index of the first entry of `chunk` whose token is not smaller. */
function positionIn(chunk: readonly WaitingSession[], token: number): number {
  return partition(chunk.length, (i) => (chunk[i]?.token ?? 0) < token)
}

/** How many leading indices of `0 … length - 1` hold `test`, which must be true up to some index and false from there. */
function partition(length: number, test: (index: number) => boolean): number {
  let low = 0
  let high = length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (test(middle)) low = middle + 1
    else high = middle
  }
  return low
}
