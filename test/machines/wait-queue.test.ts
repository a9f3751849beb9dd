import { emptyQueue, enqueue, type WaitQueue } from 'corral/machines'
import { expect, test } from 'vitest'

const fill = (tokens: Iterable<number>) => {
  let queue: WaitQueue = emptyQueue
  for (const token of tokens) queue = enqueue(queue, { sessionId: `s${token}`, token })
  return queue.chunks.map((chunk) => chunk.length)
}

test('arrivals fill one chunk after the other', () => {
  expect(fill(Array.from({ length: 300 }, (_, i) => i))).toEqual([128, 128, 44])
})

test('a session that is put back into a full chunk halves it', () => {
  const tokens = Array.from({ length: 256 }, (_, i) => 2 * i)
  expect(fill([...tokens, 3])).toEqual([64, 65, 128])
  // Behind the last of a chunk that is not the last.
  expect(fill([...tokens, 255])).toEqual([64, 65, 128])
})
