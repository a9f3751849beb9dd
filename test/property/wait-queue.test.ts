import { dequeue, emptyQueue, enqueue, entries, remove, type WaitingSession, type WaitQueue } from 'corral/machines'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

const session = (token: number, tenant?: string): WaitingSession => ({
  sessionId: `s${token}`,
  token,
  ...(tenant !== undefined && { tenant }),
})

type Step =
  | { readonly do: 'arrive'; readonly tenant: string | undefined }
  | { readonly do: 'take' }
  | { readonly do: 'remove' | 'put back' | 'add again'; readonly at: number }

const steps = (...tenants: (string | undefined)[]): fc.Arbitrary<Step> =>
  fc.oneof(
    { weight: 5, arbitrary: fc.record({ do: fc.constant('arrive' as const), tenant: fc.constantFrom(...tenants) }) },
    { weight: 2, arbitrary: fc.constant<Step>({ do: 'take' }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('remove' as const), at: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('put back' as const), at: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('add again' as const), at: fc.nat() }) },
  )

const tenants = ['', 'a', 'b', 'c', undefined]

/** The law, on plain arrays: every session that is first of its tenant has a round, and the earliest is taken. */
class Naive {
  lines: { tenant: string; round: number; sessions: WaitingSession[] }[] = []
  taken: { session: WaitingSession; round: number }[] = []
  round = 0
  last = 0

  apply(queue: WaitQueue, step: Step): WaitQueue {
    switch (step.do) {
      case 'arrive': {
        const arrived = session(++this.last, step.tenant)
        this.#add(arrived, this.round + 1)
        return enqueue(queue, arrived)
      }
      case 'take': {
        const line = this.lines.reduce<Naive['lines'][number] | undefined>(
          (best, one) => (best && isBefore(best, one) ? best : one),
          undefined,
        )
        const next = line?.sessions.shift()
        const taken = dequeue(queue)
        expect(taken?.session).toEqual(next)
        if (!line || !next || !taken) return queue
        this.taken.push({ session: next, round: taken.round })
        this.round = Math.max(this.round, line.round)
        line.round++
        this.lines = this.lines.filter(({ sessions }) => sessions.length > 0)
        return taken.queue
      }
      case 'remove': {
        const token = step.at % (this.last + 2)
        const gone = this.sessions().find((one) => one.token === token) ?? session(token)
        for (const line of this.lines) line.sessions = line.sessions.filter((one) => one.token !== token)
        this.lines = this.lines.filter(({ sessions }) => sessions.length > 0)
        return remove(queue, gone)
      }
      case 'put back': {
        const [old] = this.taken.splice(step.at % Math.max(1, this.taken.length), 1)
        if (!old) return queue
        this.#add(old.session, old.round)
        return enqueue(queue, old.session, old.round)
      }
      case 'add again': {
        const again = this.sessions()[step.at % Math.max(1, this.sessions().length)]
        return again ? enqueue(queue, again) : queue
      }
    }
  }

  sessions(): WaitingSession[] {
    return this.lines.flatMap(({ sessions }) => sessions)
  }

  #add(added: WaitingSession, round: number): void {
    const line = this.lines.find(({ tenant }) => tenant === (added.tenant ?? ''))
    if (!line) return void this.lines.push({ tenant: added.tenant ?? '', round, sessions: [added] })
    line.round = Math.min(line.round, round)
    line.sessions = [...line.sessions, added].sort((a, b) => a.token - b.token)
  }
}

function isBefore(a: Naive['lines'][number], b: Naive['lines'][number]): boolean {
  return a.round === b.round ? (a.sessions[0]?.token ?? 0) < (b.sessions[0]?.token ?? 0) : a.round < b.round
}

const byToken = (list: readonly WaitingSession[]) => list.toSorted((a, b) => a.token - b.token)

function expectSame(queue: WaitQueue, naive: Naive): void {
  expect(entries(queue)).toEqual(byToken(naive.sessions()))
  expect(queue.size).toBe(naive.sessions().length)
  const lists = [queue.lines, queue.heads, ...queue.lines.chunks.flat().map(({ sessions }) => sessions)]
  for (const { size, chunks } of lists) {
    expect(chunks.every((chunk) => chunk.length > 0 && chunk.length <= 128)).toBe(true)
    expect(chunks.flat()).toHaveLength(size)
  }
  expect(queue.heads.size).toBe(queue.lines.size)
  expect(queue.lines.size).toBe(naive.lines.length)
}

/** Everything in the queue, in order of service. */
function drain(queue: WaitQueue): WaitingSession[] {
  const taken: WaitingSession[] = []
  for (let next = dequeue(queue); next; next = dequeue(next.queue)) taken.push(next.session)
  return taken
}

describe('the wait queue', () => {
  test('does what the law on plain arrays would, step by step', () => {
    fc.assert(
      fc.property(fc.array(steps(...tenants), { maxLength: 200, size: 'max' }), (steps) => {
        const naive = new Naive()
        let queue = emptyQueue
        for (const step of steps) {
          queue = naive.apply(queue, step)
          expectSame(queue, naive)
        }
        while (naive.lines.length > 0) queue = naive.apply(queue, { do: 'take' })
        expect(queue.size).toBe(0)
      }),
    )
  })

  test.each([
    ['tenants', (i: number) => `t${i % 700}`],
    ['sessions of one tenant', () => undefined],
  ])('does so with thousands of %s', (_, tenantOf) => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1_000, max: 2_000 }),
        fc.array(steps(...tenants), { minLength: 300, maxLength: 500, size: 'max' }),
        (length, steps) => {
          const naive = new Naive()
          let queue = emptyQueue
          for (let i = 0; i < length; i++) queue = naive.apply(queue, { do: 'arrive', tenant: tenantOf(i) })
          for (const step of steps) queue = naive.apply(queue, step)
          expectSame(queue, naive)
        },
      ),
      { numRuns: 10 },
    )
  })

  test('serves sessions of one tenant, or of none, in order of arrival, however they were added', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.nat(100_000), { minLength: 500, maxLength: 1_500, size: 'max' }),
        fc.constantFrom(undefined, 'a'),
        (tokens, tenant) => {
          let queue = emptyQueue
          for (const token of tokens) queue = enqueue(queue, session(token, tenant))
          const sorted = tokens.toSorted((a, b) => a - b)
          expect(drain(queue).map(({ token }) => token)).toEqual(sorted)
        },
      ),
      { numRuns: 20 },
    )
  })

  test('serves each tenant in order of arrival, and of any other at most k + 2 before the one with k ahead of it', () => {
    const acts = fc.array(
      fc.oneof(
        { weight: 3, arbitrary: fc.constantFrom('a', 'a', 'a', 'b', 'c', undefined).map((tenant) => ({ tenant })) },
        { weight: 2, arbitrary: fc.constant('take' as const) },
        { weight: 1, arbitrary: fc.nat().map((leaves) => ({ leaves })) },
      ),
      { maxLength: 200, size: 'max' },
    )
    fc.assert(
      fc.property(acts, (acts) => {
        let queue = emptyQueue
        let token = 0
        const waiting: { session: WaitingSession; ahead: number; others: Map<string, number> }[] = []
        const nameOf = ({ tenant = '' }: WaitingSession) => tenant
        const take = () => {
          const next = dequeue(queue)
          if (!next) return
          queue = next.queue
          const oldest = waiting.find((one) => nameOf(one.session) === nameOf(next.session))
          expect(oldest?.session).toEqual(next.session)
          waiting.splice(waiting.indexOf(oldest!), 1)
          const taken = nameOf(next.session)
          for (const { session, ahead, others } of waiting) {
            if (nameOf(session) === taken) continue
            others.set(taken, (others.get(taken) ?? 0) + 1)
            expect(others.get(taken)).toBeLessThanOrEqual(ahead + 2)
          }
        }
        for (const act of acts) {
          if (act === 'take') take()
          else if ('leaves' in act) {
            const [gone] = waiting.splice(act.leaves % Math.max(1, waiting.length), 1)
            if (gone) queue = remove(queue, gone.session)
          } else {
            const arrived = session(++token, act.tenant)
            const ahead = waiting.filter((one) => nameOf(one.session) === nameOf(arrived)).length
            waiting.push({ session: arrived, ahead, others: new Map() })
            queue = enqueue(queue, arrived)
          }
        }
        while (queue.size > 0) take()
        expect(waiting).toEqual([])
      }),
    )
  })

  test('is never changed: every step makes a new one', () => {
    fc.assert(
      fc.property(fc.array(steps(...tenants), { maxLength: 300, size: 'max' }), (steps) => {
        const naive = new Naive()
        let queue = emptyQueue
        for (const step of steps) {
          const before = JSON.stringify(queue)
          const next = naive.apply(queue, step)
          expect(JSON.stringify(queue)).toBe(before)
          queue = next
        }
        expect(drain(emptyQueue)).toEqual([])
      }),
    )
  })

  test('is plain JSON', () => {
    let queue = emptyQueue
    for (let token = 1; token <= 300; token++) queue = enqueue(queue, session(token, tenants[token % 5]))
    expect(JSON.parse(JSON.stringify(queue))).toEqual(queue)
  })

  test('is the same queue when what is to be removed or added makes no difference', () => {
    const queue = enqueue(enqueue(emptyQueue, session(1)), session(2))
    expect(remove(queue, { token: 7 })).toBe(queue)
    expect(remove(queue, { token: 0 })).toBe(queue)
    expect(remove(queue, { token: 1, tenant: 'a' })).toBe(queue)
    expect(enqueue(queue, session(2))).toBe(queue)
    expect(remove(emptyQueue, { token: 1 })).toBe(emptyQueue)
    expect(dequeue(emptyQueue)).toBeUndefined()
  })
})
