import { describe, expect, test } from 'vitest'
import { FakeBackend } from '../support/fake-backend.ts'
import { isSettled, openPool, rejection } from '../support/scene.ts'
import { settled } from '../support/virtual-clock.ts'

describe('end', () => {
  test('of an unknown id does nothing', async () => {
    const { pool, events } = await openPool()
    expect(await pool.end('nobody')).toBe(false)
    expect(events).toEqual([])
  })

  test('of an id that waits for a worker leaves it waiting', async () => {
    const { pool, acquire } = await openPool({ size: { min: 1, max: 1 } })
    const live = await acquire('live')
    const waiting = acquire('a')
    expect(await pool.end('a')).toBe(false)
    expect(await isSettled(waiting)).toBe(false)
    live.release()
    await pool.end('live')
    await waiting
  })

  test('ends a session without open connections at once', async () => {
    const { pool, acquire, told, backend } = await openPool({ session: { grace: 1_000 } })
    const lease = await acquire('a')
    lease.release()
    const ended = pool.end('a')
    expect(told('session.ended')).toEqual([
      { type: 'session.ended', sessionId: 'a', token: 1, workerId: 'w1', reason: 'released' },
    ])
    expect(await ended).toBe(true)
    await settled()
    expect(backend.worker('w1').isAlive).toBe(false)
  })

  test('waits for open connections, takes no new ones, and ends with the last', async () => {
    const { pool, acquire, told } = await openPool({ session: { grace: 1_000 } })
    const [first, second] = [await acquire('a'), await acquire('a')]
    const ended = pool.end('a')
    expect(pool.stats().sessions).toEqual({ active: 0, idle: 0, closing: 1 })
    first.release()
    expect(await isSettled(ended)).toBe(false)
    expect(second.signal.aborted).toBe(false)
    second.release()
    expect(await ended).toBe(true)
    expect(told('session.ended')).toMatchObject([{ reason: 'released' }])
    expect(second.signal.aborted).toBe(true)
  })

  test('cuts connections that are still open after the grace', async () => {
    const { pool, acquire, clock } = await openPool({ session: { grace: 1_000 } })
    const lease = await acquire('a')
    const ended = pool.end('a')
    await clock.advance(999)
    expect(lease.signal.aborted).toBe(false)
    expect(await isSettled(ended)).toBe(false)
    await clock.advance(1)
    expect(lease.signal.reason).toMatchObject({ code: 'SESSION_ENDED' })
    expect(await ended).toBe(true)
    lease.release()
    expect(pool.stats().leases).toBe(0)
  })

  test('with grace 0 cuts at once', async () => {
    const { pool, acquire } = await openPool({ session: { grace: 0 } })
    const lease = await acquire('a')
    const ended = pool.end('a')
    expect(lease.signal.aborted).toBe(true)
    await ended
  })

  test('may be called again while the session closes: its grace does not begin anew', async () => {
    const { pool, acquire, clock, told } = await openPool({ session: { grace: 1_000 } })
    await acquire('a')
    const first = pool.end('a')
    await clock.advance(600)
    const second = pool.end('a')
    await clock.advance(400)
    expect(await Promise.all([first, second])).toEqual([true, true])
    expect(told('session.ended')).toHaveLength(1)
    expect(await pool.end('a')).toBe(false)
  })

  test('is over before the worker is gone', async () => {
    const backend = new FakeBackend({ stops: false })
    const { pool, acquire } = await openPool({}, backend)
    const lease = await acquire('a')
    lease.release()
    expect(await pool.end('a')).toBe(true)
    expect(pool.stats().workers).toMatchObject({ leased: 0, draining: 1 })
  })

  test('resolves when the session is lost meanwhile', async () => {
    const { pool, acquire, backend, told } = await openPool()
    await acquire('a')
    const ended = pool.end('a')
    backend.worker('w1').exit()
    expect(await ended).toBe(true)
    expect(told('session.lost')).toHaveLength(1)
    expect(told('session.ended')).toMatchObject([{ reason: 'lost' }])
    expect(pool.stats().sessions).toEqual({ active: 0, idle: 0, closing: 0 })
  })
})

describe('an acquire of a session that closes', () => {
  test('waits for its end and then gets a new session', async () => {
    const { pool, acquire, backend, told } = await openPool({ size: { min: 1, max: 2 } })
    const old = await acquire('a')
    const ended = pool.end('a')
    const waiting = [acquire('a'), acquire('a')]
    await settled()
    expect(told('session.started')).toHaveLength(1)
    expect(pool.stats().queue).toEqual({ sessions: 1, waiters: 2 })
    old.release()
    await ended
    const [next, other] = await Promise.all(waiting)
    expect(next?.session).toBe(other?.session)
    expect(next?.session.token).toBeGreaterThan(old.session.token)
    expect(next?.worker.id).not.toBe(old.worker.id)
    expect(backend.peak).toBeLessThanOrEqual(2)
  })

  test('can time out, and asks for nothing then', async () => {
    const { pool, acquire, clock, told } = await openPool({ session: { grace: 1_000 } })
    await acquire('a')
    const ended = pool.end('a')
    const waiting = acquire('a', { timeout: 500 })
    await clock.advance(500)
    expect(await rejection(waiting)).toMatchObject({ code: 'ACQUIRE_TIMEOUT' })
    expect(pool.stats().queue).toEqual({ sessions: 0, waiters: 0 })
    await clock.advance(500)
    await ended
    expect(told('session.started')).toHaveLength(1)
  })

  test('gets a new session when the closing one is lost', async () => {
    const { pool, acquire, backend } = await openPool({ size: { min: 1, max: 2 } })
    const old = await acquire('a')
    const ended = pool.end('a')
    const waiting = acquire('a')
    backend.worker('w1').exit()
    await ended
    expect((await waiting).session).not.toBe(old.session)
  })

  test('is refused at once when the pool is drained', async () => {
    const { pool, acquire } = await openPool({ session: { grace: 1_000 } })
    await acquire('a')
    void pool.end('a')
    const waiting = acquire('a')
    await settled()
    void pool.drain({ deadline: 5_000 })
    expect(await rejection(waiting)).toMatchObject({ code: 'POOL_DRAINING' })
  })

  test('gets a new session even when it is made in the moment of the end', async () => {
    const { pool, acquire, told } = await openPool({ session: { reuse: 'dirty' } })
    const next: Promise<{ session: unknown }>[] = []
    const off = pool.on('session.ended', () => {
      off()
      next.push(acquire('a'))
    })
    const old = await acquire('a')
    old.release()
    await pool.end('a')
    expect((await next[0])?.session).not.toBe(old.session)
    expect(told('session.started').map(({ token }) => token)).toEqual([1, 2])
  })

  test('gets a new session when a listener ends the old one and asks again', async () => {
    const { pool, acquire } = await openPool({ size: { min: 2, max: 2 }, session: { reuse: 'dirty' } })
    const old = await acquire('a')
    old.release()
    const next: ReturnType<typeof acquire>[] = []
    pool.on('session.started', ({ sessionId }) => {
      if (sessionId !== 'b') return
      void pool.end('a')
      next.push(acquire('a'))
    })
    await acquire('b')
    const lease = await next[0]!
    expect(lease.session).not.toBe(old.session)
    expect(lease.signal.aborted).toBe(false)
  })
})
