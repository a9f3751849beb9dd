import { emptyQueue, enqueue, entries, first, remove, type WaitQueue, type WaitingSession } from 'corral/machines'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

const session = (token: number): WaitingSession => ({ sessionId: `s${token}`, token })

type Step =
  | { readonly do: 'arrive' | 'take' }
  | { readonly do: 'remove' | 'put back' | 'add again'; readonly at: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.constant<Step>({ do: 'arrive' }) },
  { weight: 2, arbitrary: fc.constant<Step>({ do: 'take' }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('remove' as const), at: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('put back' as const), at: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('add again' as const), at: fc.nat() }) },
)

/** The queue as a plain sorted array. */
class Naive {
  tokens: number[] = []
  taken: number[] = []
  last = 0

  apply(queue: WaitQueue, step: Step): WaitQueue {
    switch (step.do) {
      case 'arrive':
        this.tokens.push(++this.last)
        return enqueue(queue, session(this.last))
      case 'take': {
        const token = this.tokens.shift()
        expect(first(queue)?.token).toBe(token)
        if (token === undefined) return queue
        this.taken.push(token)
        return remove(queue, token)
      }
      case 'remove': {
        const token = step.at % (this.last + 2)
        this.tokens = this.tokens.filter((one) => one !== token)
        return remove(queue, token)
      }
      case 'put back': {
        const [token] = this.taken.splice(step.at % Math.max(1, this.taken.length), 1)
        if (token === undefined) return queue
        this.tokens = [...this.tokens, token].sort((a, b) => a - b)
        return enqueue(queue, session(token))
      }
      case 'add again': {
        const token = this.tokens[step.at % Math.max(1, this.tokens.length)]
        return token === undefined ? queue : enqueue(queue, session(token))
      }
    }
  }
}

function expectSame(queue: WaitQueue, naive: Naive): void {
  expect(entries(queue).map(({ token }) => token)).toEqual(naive.tokens)
  expect(queue.size).toBe(naive.tokens.length)
  expect(first(queue)?.token).toBe(naive.tokens[0])
  expect(queue.chunks.every((chunk) => chunk.length > 0 && chunk.length <= 128)).toBe(true)
}

describe('the wait queue', () => {
  test('does what a sorted array would, step by step', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200, size: 'max' }), (steps) => {
        const naive = new Naive()
        let queue = emptyQueue
        for (const step of steps) {
          queue = naive.apply(queue, step)
          expectSame(queue, naive)
        }
      }),
    )
  })

  test('does so with thousands of entries', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1_000, max: 3_000 }),
        fc.array(step, { minLength: 500, maxLength: 1_000, size: 'max' }),
        (length, steps) => {
          const naive = new Naive()
          let queue = emptyQueue
          for (let i = 0; i < length; i++) queue = naive.apply(queue, { do: 'arrive' })
          for (const step of steps) queue = naive.apply(queue, step)
          expectSame(queue, naive)
        },
      ),
      { numRuns: 20 },
    )
  })

  test('takes sessions in any order and gives them back by their arrival', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(100_000), { minLength: 500, maxLength: 1_500, size: 'max' }), (tokens) => {
        let queue = emptyQueue
        for (const token of tokens) queue = enqueue(queue, session(token))
        const sorted = tokens.toSorted((a, b) => a - b)
        expect(entries(queue).map(({ token }) => token)).toEqual(sorted)
        for (const token of sorted) {
          expect(first(queue)).toEqual(session(token))
          queue = remove(queue, token)
        }
        expect(queue).toEqual(emptyQueue)
      }),
      { numRuns: 20 },
    )
  })

  test('is never changed: every step makes a new one', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300, size: 'max' }), (steps) => {
        const naive = new Naive()
        let queue = emptyQueue
        for (const step of steps) {
          const before = JSON.stringify(queue)
          const next = naive.apply(queue, step)
          expect(JSON.stringify(queue)).toBe(before)
          queue = next
        }
        expect(emptyQueue).toEqual({ size: 0, chunks: [] })
      }),
    )
  })

  test('is plain JSON', () => {
    let queue = emptyQueue
    for (let token = 1; token <= 300; token++) queue = enqueue(queue, session(token))
    expect(JSON.parse(JSON.stringify(queue))).toEqual(queue)
  })

  test('is the same queue when what is to be removed or added makes no difference', () => {
    const queue = enqueue(enqueue(emptyQueue, session(1)), session(2))
    expect(remove(queue, 7)).toBe(queue)
    expect(remove(queue, 0)).toBe(queue)
    expect(enqueue(queue, session(2))).toBe(queue)
    expect(remove(emptyQueue, 1)).toBe(emptyQueue)
    expect(first(emptyQueue)).toBeUndefined()
  })
})
