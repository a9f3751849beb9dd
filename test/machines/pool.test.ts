import { entries, poolMachine, type PoolEvent, type PoolPolicy } from 'corral/machines'
import { describe, expect, test } from 'vitest'
import { initialTransition, transition } from 'xstate'

const policy: PoolPolicy = {
  size: { min: 0, max: 2, warm: 0, startConcurrency: 2, shrinkAfter: 1_000 },
  queueLimit: 10,
  breaker: { failures: 2, cooldown: 1_000 },
  pressure: 'wait',
  worker: {
    startTimeout: 1,
    startAttempts: 1,
    stopGrace: 1,
    reuse: 'never',
    resetTimeout: 1,
    recycleSessions: 0,
    sessionGrace: 1,
    restartLimit: 0,
    restartMinDelay: 1,
    restartMaxDelay: 1,
  },
}

/** The pool after some events. Its workers are never started: only the events say what they do. */
function after(...events: PoolEvent[]) {
  let [snapshot] = initialTransition(poolMachine, { policy })
  for (const event of events) [snapshot] = transition(poolMachine, snapshot, event)
  return snapshot
}

const acquire = (token: number): PoolEvent => ({ type: 'session.acquire', sessionId: `s${token}`, token })
const ready = (workerId: string): PoolEvent => ({
  type: 'worker.ready',
  workerId,
  from: 'spawning',
  pid: 1,
  address: undefined,
})

describe('the pool chart', () => {
  test('makes a worker for a waiting session, and not a second one for it', () => {
    expect(after(acquire(1)).context).toMatchObject({ pendingAdds: 1, workers: ['w1'], queue: { size: 1 } })
    expect(after(acquire(1), acquire(1)).context.workers).toEqual(['w1'])
  })

  test('never makes more than max', () => {
    expect(after(acquire(1), acquire(2), acquire(3)).context).toMatchObject({ pendingAdds: 2, workers: ['w1', 'w2'] })
  })

  test('leases a ready worker to who waited longest', () => {
    const { context } = after(acquire(1), acquire(2), ready('w1'))
    expect(entries(context.queue).map(({ token }) => token)).toEqual([2])
    expect(context).toMatchObject({ idle: [], counts: { healthy: 1 }, pendingAdds: 1 })
  })

  test('puts a session whose lease was refused back in its place', () => {
    const refused: PoolEvent = { type: 'worker.leaseRefused', workerId: 'w1', sessionId: 's1', token: 1 }
    const { context } = after(acquire(1), acquire(2), ready('w1'), refused)
    expect(entries(context.queue).map(({ token }) => token)).toEqual([1, 2])
  })

  test('forgets a session that nobody waits for', () => {
    expect(after(acquire(1), { type: 'session.cancel', token: 1 }).context.queue.size).toBe(0)
    expect(after(acquire(1), { type: 'session.cancel', token: 9 }).context.queue.size).toBe(1)
  })

  test('drains to its end when it has no worker', () => {
    expect(after({ type: 'pool.drain' })).toMatchObject({ status: 'done', value: 'stopped', output: { failure: null } })
  })

  test('is plain JSON, whatever it holds', () => {
    const { context } = after(acquire(1), acquire(2), acquire(3), ready('w1'))
    expect(JSON.parse(JSON.stringify(context))).toEqual(context)
  })
})
