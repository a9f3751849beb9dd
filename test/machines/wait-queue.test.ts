import { dequeue, emptyQueue, enqueue, remove, type WaitQueue } from 'corral/machines'
import { describe, expect, test } from 'vitest'

const fill = (tokens: Iterable<number>) => {
  let queue: WaitQueue = emptyQueue
  for (const token of tokens) queue = enqueue(queue, { sessionId: `s${token}`, token })
  return queue.lines.chunks.flat()[0]?.sessions.chunks.map((chunk) => chunk.length)
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

/** Sessions as words: `a1` is the session of tenant `a` with token 1. */
const one = (word: string) => ({ sessionId: word, token: Number(word.slice(1)), tenant: word.slice(0, 1) })
const queueOf = (words: string, queue = emptyQueue) =>
  words
    .split(' ')
    .filter(Boolean)
    .reduce((queue, word) => enqueue(queue, one(word)), queue)

/** The next `count` sessions, and what is left. */
function serve(queue: WaitQueue, count = Number.POSITIVE_INFINITY): { words: string; rest: WaitQueue } {
  const words: string[] = []
  let rest = queue
  for (let next = dequeue(rest); next && words.length < count; next = dequeue(rest)) {
    words.push(next.session.sessionId)
    rest = next.queue
  }
  return { words: words.join(' '), rest }
}

describe('between tenants', () => {
  test('sessions are served in turns, within one in order of arrival', () => {
    expect(serve(queueOf('a1 a2 a3 a4 b5 c6 b7')).words).toBe('a1 b5 c6 a2 b7 a3 a4')
  })

  test('one that comes late waits for two turns of each at most, however many they have waiting', () => {
    const { rest } = serve(queueOf('a1 a2 a3 a4 b5 b6 b7'), 3)
    expect(serve(queueOf('c9', rest)).words).toBe('b6 a3 b7 c9 a4')
  })

  test('one that comes again at once as soon as it was served does not push in', () => {
    let queue = queueOf('a1 a2 b3')
    const order: string[] = []
    for (let token = 10; token < 14; token++) {
      const { words, rest } = serve(queue, 1)
      order.push(words)
      queue = words.startsWith('b') ? queueOf(`b${token}`, rest) : rest
    }
    expect(order).toEqual(['a1', 'b3', 'a2', 'b11'])
  })

  test('a turn that nobody took is not lost: the next of the tenant has it', () => {
    const queue = queueOf('a1 a2 a3 b4 b5')
    expect(serve(remove(queue, one('a1'))).words).toBe('a2 b4 a3 b5')
  })

  test('one that is put back is served first again, and its tenant pays for it once', () => {
    const first = dequeue(queueOf('a1 a2 b3 b4'))
    const second = first && dequeue(first.queue)
    expect([first?.session.sessionId, second?.session.sessionId]).toEqual(['a1', 'b3'])
    const queue = enqueue(second?.queue ?? emptyQueue, one('a1'), first?.round)
    expect(serve(queue).words).toBe('a1 a2 b4')
  })
})
