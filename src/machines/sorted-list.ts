/**
 * Items in order. Immutable plain JSON, so that it can live in a machine's context; kept in chunks, so that adding,
 * replacing and deleting one of many thousands copies a few hundred and not all of them.
 */
export interface SortedList<T> {
  readonly size: number
  readonly chunks: readonly (readonly T[])[]
}

/** How an item compares with a key: negative when it comes before it, zero when it is the one that the key names. */
export type Order<T, K = T> = (item: T, key: K) => number

/** Largest chunk: near the square root of the longest list one expects. */
const chunkSize = 128

export const emptyList: SortedList<never> = { size: 0, chunks: [] }

export function first<T>(list: SortedList<T>): T | undefined {
  return list.chunks[0]?.[0]
}

export function items<T>(list: SortedList<T>): T[] {
  return list.chunks.flat()
}

/** The item that `key` names. */
export function find<T, K>(list: SortedList<T>, order: Order<T, K>, key: K): T | undefined {
  const chunk = list.chunks[chunkOf(list, order, key)] ?? []
  const item = chunk[positionIn(chunk, order, key)]
  return item !== undefined && order(item, key) === 0 ? item : undefined
}

/** The list with `item` in its place: instead of the one that is equal to it by `order`, if there is one. */
export function put<T>(list: SortedList<T>, order: Order<T>, item: T): SortedList<T> {
  const at = chunkOf(list, order, item)
  const chunk = list.chunks[at]
  if (chunk === undefined) return { size: 1, chunks: [[item]] }
  const index = positionIn(chunk, order, item)
  const old = chunk[index]
  if (old !== undefined && order(old, item) === 0) return withChunks(list, list.size, at, chunk.with(index, item))
  const grown = chunk.toSpliced(index, 0, item)
  if (grown.length <= chunkSize) return withChunks(list, list.size + 1, at, grown)
  // What arrives in order fills one chunk after the other.
  const isLast = index === chunk.length && at === list.chunks.length - 1
  const halves = isLast ? [chunk, [item]] : [grown.slice(0, chunkSize / 2), grown.slice(chunkSize / 2)]
  return withChunks(list, list.size + 1, at, ...halves)
}

/** The list without the item that `key` names; the same list when it is not in it. */
export function remove<T, K>(list: SortedList<T>, order: Order<T, K>, key: K): SortedList<T> {
  const at = chunkOf(list, order, key)
  const chunk = list.chunks[at]
  if (chunk === undefined) return list
  const index = positionIn(chunk, order, key)
  const item = chunk[index]
  if (item === undefined || order(item, key) !== 0) return list
  return withChunks(list, list.size - 1, at, ...(chunk.length === 1 ? [] : [chunk.toSpliced(index, 1)]))
}

function withChunks<T>({ chunks }: SortedList<T>, size: number, at: number, ...instead: (readonly T[])[]) {
  return { size, chunks: chunks.toSpliced(at, 1, ...instead) }
}

/** Index of the chunk that holds the item of `key` or would: the last one that does not begin behind it. */
function chunkOf<T, K>({ chunks }: SortedList<T>, order: Order<T, K>, key: K): number {
  return Math.max(0, partition(chunks.length, (i) => order(chunks[i]![0]!, key) <= 0) - 1)
}

/** Index of the first item of `chunk` that does not come before `key`. */
function positionIn<T, K>(chunk: readonly T[], order: Order<T, K>, key: K): number {
  return partition(chunk.length, (i) => order(chunk[i]!, key) < 0)
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
