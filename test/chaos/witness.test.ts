import type { Lease, PoolEvent } from 'corral'
import { afterEach, describe, expect, test } from 'vitest'
import { findGrowth } from './_growth.ts'
import { Journal } from './_journal.ts'
import type { Rule } from './_journal.ts'
import { Witness } from './_witness.ts'
import type { Ask, Stamp } from './_witness.ts'

let found: () => [Rule, number][] = () => []
let wanted: [Rule, number][] = []

afterEach(() => expect(found()).toEqual(wanted))

describe('the witness says nothing when', () => {
  test('a session counts up by one, and the next of its id starts again', () => {
    const { witness, answer, start, end } = scene()
    start(1, 'red', 'w1')
    answer('red', { pid: 101, count: 1 })
    answer('red', { pid: 101, count: 2 })
    end(1, 'red', 'expired')
    start(2, 'red', 'w2')
    answer('red', { pid: 102, boot: 'b', count: 1 })
    end(2, 'red', 'released')
    witness.settle()
  })

  test('a count is missing that a request may have had whose answer nobody saw', () => {
    const { witness, answer, start, end } = scene()
    start(1, 'red', 'w1')
    answer('red', { pid: 101, count: 1 })
    const lost = witness.ask('red')
    witness.arrived(lost.nonce)
    witness.unanswered(lost)
    answer('red', { pid: 101, count: 3 })
    witness.over(lost.nonce)
    end(1, 'red', 'expired')
    witness.settle()
  })

  test('a worker is reset and serves another session', () => {
    const { witness, answer, start, end } = scene()
    start(1, 'red', 'w1')
    answer('red', { pid: 101, count: 1 })
    end(1, 'red', 'expired')
    start(2, 'blue', 'w1')
    answer('blue', { pid: 101, epoch: 1, count: 1 })
    end(2, 'blue', 'expired')
    witness.settle()
  })

  test('an answer to a request of before the end comes after it', () => {
    const { witness, start, end, stamp } = scene()
    start(1, 'red', 'w1')
    const ask = witness.ask('red')
    end(1, 'red', 'released')
    witness.answered(ask, stamp(ask, { pid: 101, count: 1 }))
    witness.settle()
  })
})

describe('the witness tells of', () => {
  test('an answer by a process that has no session of that id', () => {
    const { answer, start } = scene('affinity violations')
    start(1, 'red', 'w1')
    start(2, 'blue', 'w2')
    answer('red', { pid: 102, count: 1 })
  })

  test('an answer by the process of a session that was over when the request was sent', async () => {
    const { answer, start, end } = scene('affinity violations')
    start(1, 'red', 'w1')
    end(1, 'red', 'expired')
    await new Promise((resolve) => {
      setTimeout(resolve, 2)
    })
    answer('red', { pid: 101, count: 1 })
  })

  test('a session whose worker was reset under it', () => {
    const { witness, answer, start, end } = scene('affinity violations')
    start(1, 'red', 'w1')
    answer('red', { pid: 101, count: 1 })
    answer('red', { pid: 101, epoch: 1, count: 1 })
    end(1, 'red', 'expired')
    witness.settle()
  })

  test('an answer to another request, of another session, or by a worker that had one before', () => {
    const { answer, start } = scene('responses mixed between sessions', 3)
    start(1, 'red', 'w1')
    answer('red', { pid: 101, count: 1, nonce: 'another' })
    answer('red', { pid: 101, count: 2, session: 'blue' })
    answer('red', { pid: 101, count: 3, owner: 'blue' })
  })

  test('a count that comes twice', () => {
    const { witness, start, stamp } = scene('counts repeated or missing')
    start(1, 'red', 'w1')
    // At the same time: neither had to be higher than the other.
    for (const ask of [witness.ask('red'), witness.ask('red')]) {
      witness.answered(ask, stamp(ask, { pid: 101, count: 1 }))
    }
  })

  test('a count that goes back', () => {
    const { answer, start } = scene('counts repeated or missing')
    start(1, 'red', 'w1')
    answer('red', { pid: 101, count: 2 })
    answer('red', { pid: 101, count: 1 })
  })

  test('a count that nothing explains', () => {
    const { witness, answer, start, end } = scene('counts repeated or missing')
    start(1, 'red', 'w1')
    answer('red', { pid: 101, count: 2 })
    end(1, 'red', 'expired')
    witness.settle()
  })

  test('a count that only requests could explain which no worker can have got', () => {
    const { witness, answer, start, end } = scene('counts repeated or missing')
    // One never reached the gateway, and with the other it was done before the session began.
    witness.unanswered(witness.ask('red'))
    const early = witness.ask('red')
    witness.arrived(early.nonce)
    witness.over(early.nonce)
    witness.unanswered(early)
    start(1, 'red', 'w1')
    answer('red', { pid: 101, count: 2 })
    end(1, 'red', 'expired')
    witness.settle()
  })

  test('a session that ends as lost, and no word of it', () => {
    const { start, end } = scene('unreported losses')
    start(1, 'red', 'w1')
    end(1, 'red', 'lost')
  })

  test('a client that is told of a loss, and no listener', () => {
    const { witness, start } = scene('unreported losses')
    start(1, 'red', 'w1')
    witness.toldLost(witness.ask('red'))
  })

  test('a live session whose process is dead', () => {
    const { witness, start } = scene('unreported losses')
    start(1, 'red', 'w1')
    for (let i = 0; i < 100; i++) witness.look(() => false)
  })

  test('a loss, an end or a start that is told twice', () => {
    const { start, end, lose } = scene('double reports', 3)
    start(1, 'red', 'w1')
    lose(1, 'red')
    lose(1, 'red')
    end(1, 'red', 'lost')
    end(1, 'red', 'lost')
    start(1, 'red', 'w1')
  })

  test('two sessions of one id, and two on one worker', () => {
    const { start } = scene('two sessions on one worker or id', 2)
    start(1, 'red', 'w1')
    start(2, 'red', 'w2')
    start(3, 'blue', 'w2')
  })

  test('a session that does not end', () => {
    const { witness, start } = scene('sessions started and not ended')
    start(1, 'red', 'w1')
    witness.settle()
  })

  test('a lease on a session that is over', () => {
    const { witness, start, end } = scene('leases on sessions that are over')
    start(1, 'red', 'w1')
    end(1, 'red', 'expired')
    const session = { id: 'red', token: 1 }
    witness.granted('red', { session, worker: { id: 'w1', pid: 101 }, signal: { aborted: false } } as Lease)
  })
})

test('growth is what the last quarter has beyond the first', () => {
  const sample = { rss: 100, heap: 20, descriptors: 40, handles: 30 }
  const samples = (last: Partial<typeof sample>) => [
    ...Array.from({ length: 9 }, () => sample),
    ...Array.from({ length: 3 }, () => ({ ...sample, ...last })),
  ]
  expect(findGrowth(samples({ heap: 22, rss: 120 }))).toEqual([])
  expect(findGrowth(samples({ heap: 40 }))).toEqual(['heap: from 20.0 to 40.0'])
  expect(findGrowth(samples({ handles: 40, descriptors: 60 }))).toEqual([
    'descriptors: from 40.0 to 60.0',
    'handles: from 30.0 to 40.0',
  ])
})

/** A witness to be told stories; what it finds is checked at the end of the test. */
function scene(rule?: Rule, times = 1) {
  const journal = new Journal()
  const witness = new Witness('test', journal)
  found = () => [...journal.counts].filter(([, count]) => count > 0)
  wanted = rule === undefined ? [] : [[rule, times]]
  const observe = (event: object) => witness.observe(event as PoolEvent)
  observe({ type: 'worker.ready', workerId: 'w1', pid: 101 })
  observe({ type: 'worker.ready', workerId: 'w2', pid: 102 })
  const stamp = ({ id, nonce }: Ask, given: Partial<Stamp> & { pid: number; count: number }): Stamp => ({
    boot: 'a',
    epoch: 0,
    session: id,
    owner: id,
    nonce,
    ...given,
  })
  return {
    witness,
    stamp,
    start: (token: number, sessionId: string, workerId: string) =>
      observe({ type: 'session.started', token, sessionId, workerId }),
    end: (token: number, sessionId: string, reason: string) =>
      observe({ type: 'session.ended', token, sessionId, workerId: 'w1', reason }),
    lose: (token: number, sessionId: string) =>
      observe({ type: 'session.lost', token, sessionId, workerId: 'w1', reason: 'crashed' }),
    answer: (id: string, given: Partial<Stamp> & { pid: number; count: number }) => {
      const ask = witness.ask(id)
      witness.answered(ask, stamp(ask, given))
    },
  }
}
