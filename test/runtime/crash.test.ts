import { describe, expect, test } from 'vitest'
import { FakeBackend } from '../support/fake-backend.ts'
import { isSettled, openPool } from '../support/scene.ts'
import { settled } from '../support/virtual-clock.ts'

const restart = { limit: 3, minDelay: 100, maxDelay: 1_000 }

describe('a worker that dies while it is leased', () => {
  test('loses its session: told once, before its end, with everything that is known', async () => {
    const { acquire, backend, events, told } = await openPool({ restart })
    await acquire('a')
    const worker = backend.worker('w1')
    worker.lines = ['thread panicked', 'aborting']
    worker.exit({ signal: 'SIGABRT' })
    await settled()
    expect(told('session.lost')).toEqual([
      {
        type: 'session.lost',
        sessionId: 'a',
        token: 1,
        workerId: 'w1',
        reason: 'crashed',
        exitCode: null,
        signal: 'SIGABRT',
        output: ['thread panicked', 'aborting'],
        error: expect.objectContaining({ code: 'SESSION_LOST', sessionId: 'a', signal: 'SIGABRT' }),
      },
    ])
    expect(told('session.ended')).toEqual([
      { type: 'session.ended', sessionId: 'a', token: 1, workerId: 'w1', reason: 'lost' },
    ])
    expect(events.map(({ type }) => type).filter((type) => type !== 'session.started')).toEqual([
      'session.lost',
      'session.ended',
      'worker.crashed',
      'worker.restarting',
    ])
  })

  test('is counted as one for want of memory when it was', async () => {
    const { acquire, backend, pool, told } = await openPool({ size: { min: 2 }, restart })
    const reasons = { w2: {}, w1: { cause: 'oom' } } as const
    for (const [id, cause] of Object.entries(reasons)) {
      expect((await acquire(id)).worker.id).toBe(id)
      backend.worker(id).exit({ signal: 'SIGKILL', ...cause })
      await settled()
    }
    expect(told('session.lost')).toMatchObject([{ reason: 'crashed' }, { reason: 'oom' }])
    expect(pool.stats().totals).toMatchObject({ workersCrashed: 2, workersOutOfMemory: 1 })
  })

  test('loses a session without open connections too', async () => {
    const { acquire, backend, told, pool } = await openPool({ restart })
    const lease = await acquire('a')
    lease.release()
    backend.worker('w1').exit()
    await settled()
    expect(told('session.lost')).toHaveLength(1)
    expect(told('session.ended')).toMatchObject([{ reason: 'lost' }])
    expect(pool.stats()).toMatchObject({
      sessions: { active: 0, idle: 0, closing: 0 },
      totals: { sessionsLost: 1, sessionsEnded: 1, workersCrashed: 1 },
    })
  })

  test('ends one session and leaves all others alone', async () => {
    const { acquire, backend, told } = await openPool({ size: { min: 3 }, restart })
    const leases = await Promise.all(['a', 'b', 'c'].map((id) => acquire(id)))
    backend.worker(leases[1]!.worker.id).exit()
    await settled()
    expect(told('session.lost').map(({ sessionId }) => sessionId)).toEqual(['b'])
    expect(leases.map(({ signal }) => signal.aborted)).toEqual([false, true, false])
  })

  test('aborts the signals of its leases with the error that the event carries', async () => {
    const { acquire, backend, told } = await openPool()
    const lease = await acquire('a')
    const { signal } = lease
    backend.worker('w1').exit({ exitCode: 9 })
    await settled()
    expect(signal.reason).toBe(told('session.lost')[0]?.error)
  })

  test('is not handed out again: the same id gets another process', async () => {
    const { acquire, backend } = await openPool({ size: { min: 1, max: 2 }, restart })
    const old = await acquire('a')
    backend.worker('w1').exit()
    await settled()
    const next = await acquire('a')
    expect(next.session).not.toBe(old.session)
    expect(next.worker.pid).not.toBe(old.worker.pid)
    expect(backend.worker(next.worker.id).isAlive).toBe(true)
  })

  test('a listener of session.lost that asks for the id again gets a new session', async () => {
    const { acquire, backend, pool } = await openPool({ size: { min: 2 }, restart })
    const old = await acquire('a')
    const next: ReturnType<typeof acquire>[] = []
    pool.on('session.lost', ({ sessionId }) => next.push(acquire(sessionId)))
    backend.worker(old.worker.id).exit()
    await settled()
    const lease = await next[0]!
    expect(lease.session).not.toBe(old.session)
    expect(lease.signal.aborted).toBe(false)
  })

  test('an abort listener that asks for the id again gets a new session', async () => {
    const { acquire, backend } = await openPool({ size: { min: 2 }, restart })
    const old = await acquire('a')
    const next: ReturnType<typeof acquire>[] = []
    old.signal.addEventListener('abort', () => next.push(acquire('a')))
    backend.worker(old.worker.id).exit()
    await settled()
    const lease = await next[0]!
    expect(lease.session).not.toBe(old.session)
    expect(lease.signal.aborted).toBe(false)
  })
})

describe('a worker that dies', () => {
  test('while it is idle is never granted, and is not counted as a lost session', async () => {
    const { acquire, backend, pool, told } = await openPool({ size: { min: 2 }, restart })
    backend.worker('w2').exit()
    const lease = await acquire('a')
    expect(lease.worker.id).toBe('w2')
    // The exit is known one turn later: whoever took the worker before hears of it at once.
    await settled()
    expect(lease.signal.aborted).toBe(true)
    const next = await acquire('b')
    expect(next.worker.id).toBe('w1')
    expect(pool.stats().totals.sessionsLost).toBe(1)
    expect(told('session.lost').map(({ sessionId }) => sessionId)).toEqual(['a'])
  })

  test('while it is idle does not stand in the way of new sessions', async () => {
    const { acquire, backend } = await openPool({ size: { min: 1, max: 2 }, restart: { limit: 0 } })
    backend.worker('w1').exit()
    await settled()
    const lease = await acquire('a')
    expect(backend.worker(lease.worker.id).isAlive).toBe(true)
  })

  test.each([0, 3])('while a listener asks for a session is not granted (restart limit %i)', async (limit) => {
    const { acquire, backend, pool } = await openPool({ size: { min: 1, max: 2 }, restart: { limit } })
    const asked: ReturnType<typeof acquire>[] = []
    pool.on('worker.crashed', () => asked.push(acquire('a')))
    backend.worker('w1').exit()
    await settled()
    expect(await isSettled(asked[0]!)).toBe(true)
    const lease = await asked[0]!
    expect(backend.worker(lease.worker.id).isAlive).toBe(true)
    expect(lease.signal.aborted).toBe(false)
  })

  test('while it drains is simply gone', async () => {
    const backend = new FakeBackend({ stops: false })
    const { acquire, pool, told } = await openPool({ size: { min: 0 } }, backend)
    const lease = await acquire('a')
    lease.release()
    await pool.end('a')
    backend.worker('w1').exit({ signal: 'SIGSEGV' })
    await settled()
    expect(told('worker.crashed')).toEqual([])
    expect(told('worker.dead')).toEqual([
      { type: 'worker.dead', workerId: 'w1', reason: 'stopped', exitCode: null, signal: 'SIGSEGV' },
    ])
  })

  test('while it starts for a waiting session is replaced, and the session waits on', async () => {
    const backend = new FakeBackend({ ready: false })
    const { acquire, told } = await openPool({ size: { min: 0 } }, backend)
    const waiting = acquire('a')
    await settled()
    backend.worker('w1').exit({ exitCode: 3 })
    await settled()
    expect(await isSettled(waiting)).toBe(false)
    backend.worker('w2').becomeReady()
    expect((await waiting).worker.id).toBe('w2')
    expect(told('worker.crashed')).toMatchObject([
      { workerId: 'w1', failure: { code: 'WORKER_START_FAILED', exitCode: 3 } },
    ])
    expect(told('worker.dead')).toMatchObject([{ workerId: 'w1', reason: 'failed', exitCode: 3 }])
  })

  test('while its session closes loses the session all the same', async () => {
    const { acquire, pool, backend, told } = await openPool({ session: { grace: 1_000 } })
    const lease = await acquire('a')
    void pool.end('a')
    backend.worker('w1').exit()
    await settled()
    expect(told('session.lost')).toHaveLength(1)
    expect(told('session.ended')).toMatchObject([{ reason: 'lost' }])
    expect(lease.signal.reason).toMatchObject({ code: 'SESSION_LOST' })
  })

  test('while it waits to be stopped loses its session, and is not restarted', async () => {
    const { acquire, pool, backend, told, clock } = await openPool({ restart })
    await acquire('a')
    const drained = pool.drain({ deadline: 10_000 })
    backend.worker('w1').exit()
    await settled()
    expect(told('session.lost')).toHaveLength(1)
    await clock.advance(0)
    expect(await isSettled(drained)).toBe(true)
    expect(backend.calls).toBe(1)
  })
})

describe('a worker that crashed', () => {
  test('starts again in its slot, after a backoff that doubles, with jitter, up to its limit', async () => {
    const { backend, clock, told } = await openPool({
      restart: { limit: 6, minDelay: 100, maxDelay: 1_000 },
      breaker: { failures: 100 },
    })
    for (let i = 0; i < 6; i++) {
      backend.worker('w1').exit()
      await settled()
      await clock.advance(1_000)
    }
    const restarts = told('worker.restarting')
    expect(restarts.map(({ workerId, attempt }) => [workerId, attempt])).toEqual(
      [1, 2, 3, 4, 5, 6].map((attempt) => ['w1', attempt]),
    )
    const bounds = [100, 200, 400, 800, 1_000, 1_000]
    for (const [i, { delay }] of restarts.entries()) {
      expect(delay).toBeLessThanOrEqual(bounds[i]!)
      expect(delay).toBeGreaterThanOrEqual(bounds[i]! / 2)
    }
    expect(told('worker.spawning').map(({ incarnation }) => incarnation)).toEqual([1, 2, 3, 4, 5, 6])
  })

  test('waits out exactly the delay that it told', async () => {
    const { backend, clock, told } = await openPool({ restart })
    backend.worker('w1').exit()
    await settled()
    const delay = told('worker.restarting')[0]!.delay
    await clock.advance(delay - 1)
    expect(backend.calls).toBe(1)
    await clock.advance(1)
    expect(backend.calls).toBe(2)
    expect(backend.worker('w1').isAlive).toBe(true)
  })

  test('together with others does not start together with them', async () => {
    const { backend, told } = await openPool({ size: { min: 8 }, restart: { minDelay: 1_000 } })
    for (const worker of backend.alive) worker.exit()
    await settled()
    expect(new Set(told('worker.restarting').map(({ delay }) => delay)).size).toBeGreaterThan(4)
  })

  test('is replaced by a new one when its budget is spent', async () => {
    const { backend, clock, told, pool } = await openPool({
      restart: { ...restart, limit: 2 },
      breaker: { failures: 100 },
    })
    for (let i = 0; i < 3; i++) {
      backend.worker('w1').exit()
      await settled()
      await clock.advance(1_000)
    }
    expect(told('worker.restarting')).toHaveLength(2)
    expect(told('worker.dead')).toMatchObject([{ workerId: 'w1', reason: 'failed', exitCode: 1 }])
    expect(pool.stats().workers).toMatchObject({ total: 1, healthy: 1 })
    expect(backend.alive.map(({ id }) => id)).toEqual(['w2'])
  })

  test('has its whole budget again once a session was served to its end', async () => {
    const { acquire, backend, clock, told, pool } = await openPool({
      size: { min: 1, max: 1 },
      session: { reuse: 'dirty' },
      restart: { ...restart, limit: 1 },
    })
    for (let i = 0; i < 3; i++) {
      backend.worker('w1').exit()
      await settled()
      await clock.advance(1_000)
      const lease = await acquire('a')
      lease.release()
      await pool.end('a')
    }
    expect(told('worker.restarting')).toHaveLength(3)
    expect(told('worker.dead')).toEqual([])
  })

  test('has not, when its sessions are lost', async () => {
    const { acquire, backend, clock, told } = await openPool({
      size: { min: 1, max: 1 },
      restart: { ...restart, limit: 1 },
    })
    await acquire('a')
    backend.worker('w1').exit()
    await clock.advance(1_000)
    await acquire('b')
    backend.worker('w1').exit()
    await settled()
    expect(told('worker.dead')).toMatchObject([{ workerId: 'w1' }])
  })

  test('is given up when its restart fails', async () => {
    const { backend, clock, told } = await openPool({ restart })
    backend.script.push((worker) => worker.exit({ exitCode: 5 }))
    backend.behaviour.ready = false
    backend.worker('w1').exit()
    await settled()
    await clock.advance(100)
    expect(told('worker.dead')).toMatchObject([{ workerId: 'w1', reason: 'failed', exitCode: 5 }])
    expect(backend.alive.map(({ id }) => id)).toEqual(['w2'])
  })

  test('does not make a waiting session wait for its backoff when there is room for another worker', async () => {
    const { acquire, backend, pool } = await openPool({ size: { min: 1, max: 2 }, restart: { minDelay: 10_000 } })
    backend.worker('w1').exit()
    await settled()
    expect((await acquire('a')).worker.id).toBe('w2')
    expect(pool.stats().workers).toMatchObject({ restarting: 1, leased: 1 })
  })

  test('in a full pool serves the waiting session after its backoff', async () => {
    const { acquire, backend, clock } = await openPool({ size: { min: 1, max: 1 }, restart })
    backend.worker('w1').exit()
    await settled()
    const waiting = acquire('a')
    expect(await isSettled(waiting)).toBe(false)
    await clock.advance(100)
    expect((await waiting).worker.pid).toBe(backend.worker('w1').pid)
  })

  test('with restart.limit 0 is replaced at once', async () => {
    const { backend, told } = await openPool({ restart: { limit: 0 } })
    backend.worker('w1').exit()
    await settled()
    expect(told('worker.restarting')).toEqual([])
    expect(backend.alive.map(({ id }) => id)).toEqual(['w2'])
  })
})
