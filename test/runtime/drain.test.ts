import { createPool } from 'corral'
import { describe, expect, test } from 'vitest'
import { FakeBackend } from '../support/fake-backend.ts'
import { isSettled, openPool, rejection } from '../support/scene.ts'
import { settled, VirtualClock } from '../support/virtual-clock.ts'

describe('close', () => {
  test('ends every session, stops every worker, and resolves when the last is gone', async () => {
    const backend = new FakeBackend({ stops: false })
    const { acquire, pool, told } = await openPool({ size: { min: 2 }, session: { grace: 5_000 } }, backend)
    const lease = await acquire('a')
    const closed = pool.close()
    expect(lease.signal.reason).toMatchObject({ code: 'SESSION_ENDED' })
    expect(told('session.ended')).toMatchObject([{ reason: 'drained' }])
    expect(backend.alive.map(({ stops, kills }) => [stops, kills])).toEqual([
      [1, 0],
      [1, 0],
    ])
    backend.worker('w1').exit({ exitCode: 0 })
    expect(await isSettled(closed)).toBe(false)
    backend.worker('w2').exit({ exitCode: 0 })
    expect(await isSettled(closed)).toBe(true)
  })

  test('with force kills the workers at once, also those that were asked to stop before', async () => {
    const backend = new FakeBackend({ stops: false })
    const { acquire, pool, told } = await openPool({ size: { min: 2 } }, backend)
    await acquire('a')
    const closed = pool.close()
    expect(await isSettled(closed)).toBe(false)
    expect(await isSettled(pool.close({ force: true }))).toBe(true)
    expect(await isSettled(closed)).toBe(true)
    expect(told('worker.dead')).toMatchObject([{ signal: 'SIGKILL' }, { signal: 'SIGKILL' }])
    expect(await rejection(pool.close({ force: 1 } as never))).toMatchObject({
      code: 'INVALID_OPTION',
      option: 'force',
    })
  })

  test('kills a worker that does not heed its stop, after the grace, and waits for its end', async () => {
    const backend = new FakeBackend({ stops: false, dies: false })
    const { pool, clock } = await openPool({}, backend)
    const closed = pool.close()
    await clock.advance(backend.stopGrace - 1)
    expect(backend.worker('w1').kills).toBe(0)
    await clock.advance(1)
    expect(backend.worker('w1').kills).toBe(1)
    expect(await isSettled(closed)).toBe(false)
    backend.worker('w1').exit({ signal: 'SIGKILL' })
    expect(await isSettled(closed)).toBe(true)
  })

  test('with stopGrace 0 kills at once', async () => {
    const backend = new FakeBackend({ stops: false })
    backend.stopGrace = 0
    const { pool, clock } = await openPool({}, backend)
    const closed = pool.close()
    await clock.advance(0)
    expect(await isSettled(closed)).toBe(true)
  })

  test('may be called any number of times, at once and later', async () => {
    const { pool, told } = await openPool()
    await Promise.all([pool.close(), pool.close(), pool.drain(), pool[Symbol.asyncDispose]()])
    await pool.close()
    await pool.drain()
    expect(told('pool.draining')).toHaveLength(1)
    expect(told('pool.stopped')).toHaveLength(1)
  })

  test('comes with the end of the block that holds the pool', async () => {
    const backend = new FakeBackend()
    {
      await using pool = await createPool({ worker: backend, clock: new VirtualClock(), host: false })
      expect(pool.stats().workers.healthy).toBe(1)
    }
    expect(backend.alive).toEqual([])
  })

  test('stops workers that are being started', async () => {
    const backend = new FakeBackend({ ready: false })
    const { acquire, pool } = await openPool({ size: { min: 0 } }, backend)
    const waiting = acquire('a')
    await settled()
    const closed = pool.close()
    expect(await rejection(waiting)).toMatchObject({ code: 'POOL_DRAINING' })
    expect(await isSettled(closed)).toBe(true)
    expect(backend.workers.map(({ stops }) => stops)).toEqual([1])
  })

  test('waits for a launch that is under way, and kills what comes of it', async () => {
    const backend = new FakeBackend({ launches: false })
    const { acquire, pool } = await openPool({ size: { min: 0 } }, backend)
    acquire('a').catch(() => {})
    await settled()
    const closed = pool.close()
    expect(backend.launches[0]?.signal.aborted).toBe(true)
    expect(await isSettled(closed)).toBe(false)
    backend.launches[0]?.succeed()
    expect(await isSettled(closed)).toBe(true)
    expect(backend.workers[0]?.kills).toBeGreaterThan(0)
  })

  test('gives up a restart', async () => {
    const { pool, backend, told } = await openPool({ restart: { minDelay: 10_000 } })
    backend.worker('w1').exit()
    await settled()
    await pool.close()
    expect(backend.calls).toBe(1)
    expect(told('worker.dead')).toMatchObject([{ workerId: 'w1' }])
  })

  test('of an empty pool resolves', async () => {
    const { pool } = await openPool({ size: { min: 0 } })
    await pool.close()
    expect(pool.stats().state).toBe('stopped')
  })

  test('with the breaker open resolves', async () => {
    const { acquire, pool, backend } = await openPool({ size: { min: 0 }, breaker: { failures: 1 } })
    backend.launchError = new Error('no')
    expect(await rejection(acquire('a'))).toMatchObject({ code: 'WORKER_START_FAILED' })
    expect(pool.stats().breaker).toBe('open')
    await pool.close()
  })

  test('called by a listener closes', async () => {
    const { acquire, pool } = await openPool({ size: { min: 2 } })
    const closing: Promise<void>[] = []
    pool.on('session.started', () => closing.push(pool.close()))
    const lease = await acquire('a')
    await closing[0]
    expect(lease.signal.aborted).toBe(true)
  })
})

describe('drain', () => {
  test('lets open connections finish, ends idle sessions at once', async () => {
    const { acquire, pool, told, backend } = await openPool({ size: { min: 3 } })
    const [busy, idle] = [await acquire('busy'), await acquire('idle')]
    idle.release()
    const drained = pool.drain({ deadline: 10_000 })
    expect(pool.stats()).toMatchObject({ state: 'draining', sessions: { closing: 1, idle: 0, active: 0 } })
    expect(told('session.ended')).toMatchObject([{ sessionId: 'idle', reason: 'drained' }])
    await settled()
    expect(backend.alive.map(({ id }) => id)).toEqual([busy.worker.id])
    expect(busy.signal.aborted).toBe(false)
    expect(await isSettled(drained)).toBe(false)
    busy.release()
    expect(await isSettled(drained)).toBe(true)
  })

  test('cuts what is still open at its deadline, whatever the grace of sessions', async () => {
    const { acquire, pool, clock } = await openPool({ session: { grace: 100 } })
    const lease = await acquire('a')
    const drained = pool.drain({ deadline: 2_000 })
    await clock.advance(1_999)
    expect(lease.signal.aborted).toBe(false)
    await clock.advance(1)
    expect(lease.signal.aborted).toBe(true)
    expect(await isSettled(drained)).toBe(true)
  })

  test('with deadline 0 is a close', async () => {
    const { acquire, pool } = await openPool()
    const lease = await acquire('a')
    await pool.drain({ deadline: 0 })
    expect(lease.signal.aborted).toBe(true)
  })

  test('is cut short by close', async () => {
    const { acquire, pool } = await openPool()
    const lease = await acquire('a')
    const drained = pool.drain({ deadline: 60_000 })
    await settled()
    const closed = pool.close()
    expect(lease.signal.aborted).toBe(true)
    await Promise.all([drained, closed])
  })

  test('is not stretched by another drain: the nearest deadline holds', async () => {
    const { acquire, pool, clock } = await openPool()
    const lease = await acquire('a')
    const drained = [pool.drain({ deadline: 1_000 })]
    await clock.advance(900)
    drained.push(pool.drain({ deadline: 1_000 }), pool.drain())
    await clock.advance(100)
    expect(lease.signal.aborted).toBe(true)
    await Promise.all(drained)
  })

  test('is hastened by another drain with a nearer deadline', async () => {
    const { acquire, pool, clock } = await openPool()
    const lease = await acquire('a')
    const drained = [pool.drain(), pool.drain({ deadline: 500 })]
    await clock.advance(499)
    expect(lease.signal.aborted).toBe(false)
    await clock.advance(1)
    expect(lease.signal.aborted).toBe(true)
    await Promise.all(drained)
  })

  test('refuses whoever waits, and every new session', async () => {
    const { acquire, pool } = await openPool({ size: { min: 1, max: 1 } })
    const live = await acquire('live')
    const waiting = [acquire('a'), acquire('a'), acquire('b')]
    const drained = pool.drain()
    for (const waiter of waiting) expect(await rejection(waiter)).toMatchObject({ code: 'POOL_DRAINING' })
    expect(await rejection(acquire('c'))).toMatchObject({ name: 'PoolClosedError', code: 'POOL_DRAINING' })
    expect(await rejection(acquire('live'))).toMatchObject({ code: 'POOL_DRAINING' })
    live.release()
    await drained
    expect(await rejection(acquire('c'))).toMatchObject({ code: 'POOL_CLOSED' })
    expect(await pool.end('live')).toBe(false)
  })

  test.each([0, 1_000])('by a listener, right after it acquired, loses nobody (deadline %d)', async (deadline) => {
    const { acquire, pool, told, clock } = await openPool({ size: { min: 2, max: 2 } })
    const first = await acquire('a')
    const waiting: Promise<unknown>[] = []
    const off = pool.on('session.ended', () => {
      off()
      // The pool is busy telling of this: it leases the other worker and drains right after, before it hears of the lease.
      waiting.push(acquire('b'))
      void pool.drain({ deadline })
    })
    first.release()
    await pool.end('a')
    await settled()
    expect(await isSettled(waiting[0]!)).toBe(true)
    await clock.advance(deadline)
    expect(told('session.ended')).toHaveLength(told('session.started').length)
    expect(pool.stats()).toMatchObject({ state: 'stopped', queue: { waiters: 0 } })
  })

  test('starts no replacements', async () => {
    const { acquire, pool, backend } = await openPool({ size: { min: 2, max: 4, warm: 1 } })
    await settled()
    const lease = await acquire('a')
    const calls = backend.calls
    const drained = pool.drain()
    await settled()
    lease.release()
    await drained
    expect(backend.calls).toBe(calls)
  })

  test('tells in order: draining, the ends of sessions, the ends of workers, stopped', async () => {
    const { acquire, pool, events } = await openPool()
    const lease = await acquire('a')
    lease.release()
    events.length = 0
    await pool.drain()
    expect(events.map(({ type }) => type)).toEqual([
      'pool.draining',
      'session.ended',
      'worker.draining',
      'worker.dead',
      'pool.stopped',
    ])
  })

  test('of a session that closes already keeps the reason of its end', async () => {
    const { acquire, pool, told } = await openPool()
    const lease = await acquire('a')
    void pool.end('a')
    const drained = pool.drain()
    lease.release()
    await drained
    expect(told('session.ended')).toMatchObject([{ reason: 'released' }])
  })

  test.each([-1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31])('refuses the deadline %d', async (deadline) => {
    const { pool } = await openPool()
    expect(await rejection(pool.drain({ deadline }))).toMatchObject({ code: 'INVALID_OPTION', option: 'deadline' })
    expect(pool.stats().state).toBe('running')
  })
})

test('a session that a listener asks for after it has closed a pool without workers is refused', async () => {
  const { acquire, pool } = await openPool({ size: { min: 0, max: 1 } })
  const lease = await acquire('a')
  const asked: Promise<unknown>[] = []
  const off = pool.on('worker.dead', () => {
    off()
    void pool.close()
    asked.push(acquire('b'))
  })
  lease.release()
  await pool.end('a')
  await settled()
  expect(asked).toHaveLength(1)
  expect(await rejection(asked[0]!)).toMatchObject({ code: 'POOL_DRAINING' })
})
