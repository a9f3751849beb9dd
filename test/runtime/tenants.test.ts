import { describe, expect, test } from 'vitest'
import { FakeBackend } from '../support/fake-backend.ts'
import { isSettled, openPool, rejection } from '../support/scene.ts'
import { settled } from '../support/virtual-clock.ts'

const unlimited = { sessions: false, waiting: false } as const

describe('sessions that wait', () => {
  test('are served in turns between tenants, within one in order of arrival', async () => {
    const { acquire, pool, told } = await openPool({ size: { min: 1, max: 1 }, tenant: unlimited })
    const first = await acquire('first')
    const waiting = ['a1', 'a2', 'a3', 'b1', 'b2', 'c1'].map((id) => acquire(id, { tenant: id.slice(0, 1) }))
    const released = waiting.map(async (lease) => {
      const { session } = await lease
      // One worker, so the next is served when this one has ended.
      await Promise.all([pool.end(session.id), lease.then((lease) => lease.release())])
    })
    first.release()
    await pool.end('first')
    await Promise.all(released)
    expect(told('session.started').map(({ sessionId }) => sessionId)).toEqual([
      'first',
      'a1',
      'b1',
      'c1',
      'a2',
      'b2',
      'a3',
    ])
  })

  test('of a tenant whose other clients leave do not lose their turn', async () => {
    const { acquire, clock, pool } = await openPool({ size: { min: 1, max: 1 }, tenant: unlimited })
    const first = await acquire('first')
    for (let i = 0; i < 50; i++) {
      const gaveUp = acquire(`a${i}`, { tenant: 'a', timeout: 10 })
      await clock.advance(10)
      expect(await rejection(gaveUp)).toMatchObject({ code: 'ACQUIRE_TIMEOUT' })
    }
    const a = acquire('a', { tenant: 'a' })
    const b = [acquire('b1', { tenant: 'b' }), acquire('b2', { tenant: 'b' })]
    first.release()
    await pool.end('first')
    expect(await isSettled(a)).toBe(true)
    expect(await isSettled(b[0]!)).toBe(false)
  })
})

describe('the limit on sessions of one tenant', () => {
  test('counts those that live and those that wait, and refuses more before anything is spent', async () => {
    const backend = new FakeBackend({ ready: false })
    const { acquire, pool, told } = await openPool({ size: { min: 0, max: 4 }, tenant: { sessions: 2 } }, backend)
    const a1 = acquire('a1', { tenant: 'a' })
    await settled()
    backend.worker('w1').becomeReady()
    await a1
    const a2 = acquire('a2', { tenant: 'a' })
    const before = pool.stats()
    const error = await rejection(acquire('a3', { tenant: 'a' }))
    expect(error).toMatchObject({ code: 'TENANT_LIMIT', tenant: 'a' })
    expect(error.message).toContain('it has 2 sessions or waits for them already (tenant.sessions)')
    expect(pool.stats()).toEqual(before)
    expect(told('worker.spawning')).toHaveLength(2)
    expect(await isSettled(acquire('b1', { tenant: 'b' }))).toBe(false)
    expect(await isSettled(a2)).toBe(false)
  })

  test('is half of size.max, rounded up, by default', async () => {
    const { acquire } = await openPool({ size: { min: 0, max: 5 } })
    for (const id of ['a1', 'a2', 'a3']) await acquire(id, { tenant: 'a' })
    expect(await rejection(acquire('a4', { tenant: 'a' }))).toMatchObject({ code: 'TENANT_LIMIT' })
    await acquire('b1', { tenant: 'b' })
  })

  test('does not hold for those who name no tenant, nor for connections on a live session', async () => {
    const { acquire } = await openPool({ size: { min: 0, max: 4 }, tenant: { sessions: 1 } })
    await Promise.all(['x', 'y', 'z'].map((id) => acquire(id)))
    await acquire('a1', { tenant: 'a' })
    const more = await Promise.all([acquire('a1', { tenant: 'a' }), acquire('x', { tenant: 'a' })])
    expect(more.map(({ session }) => session.id)).toEqual(['a1', 'x'])
  })

  test('counts a session for the tenant that opened it, whoever joins', async () => {
    const backend = new FakeBackend({ ready: false })
    const { acquire, pool } = await openPool({ size: { min: 0, max: 4 }, tenant: { sessions: 1 } }, backend)
    const shared = [acquire('shared', { tenant: 'a' }), acquire('shared', { tenant: 'b' })]
    await settled()
    expect(pool.stats().tenants).toBe(1)
    backend.letGo()
    backend.worker('w1').becomeReady()
    await Promise.all(shared)
    expect(pool.sessions()).toMatchObject([{ id: 'shared', tenant: 'a', leases: 2 }])
    await acquire('b1', { tenant: 'b' })
    expect(await rejection(acquire('a1', { tenant: 'a' }))).toMatchObject({ code: 'TENANT_LIMIT' })
  })

  test('lets the next session of an id wait for the end of the present one', async () => {
    const { acquire, pool } = await openPool({ size: { min: 0, max: 4 }, tenant: { sessions: 1 } })
    const lease = await acquire('a1', { tenant: 'a' })
    const ended = pool.end('a1')
    const next = acquire('a1', { tenant: 'a' })
    expect(await isSettled(next)).toBe(false)
    expect(await rejection(acquire('a2', { tenant: 'a' }))).toMatchObject({ code: 'TENANT_LIMIT' })
    lease.release()
    await ended
    expect((await next).session).not.toBe(lease.session)
  })

  test('lets nobody wait in the place of a session of another tenant', async () => {
    const { acquire, pool } = await openPool({ size: { min: 0, max: 4 }, tenant: { sessions: 1 } })
    await acquire('a1', { tenant: 'a' })
    const lease = await acquire('b1', { tenant: 'b' })
    const ended = pool.end('b1')
    expect(await rejection(acquire('b1', { tenant: 'a' }))).toMatchObject({ code: 'TENANT_LIMIT' })
    lease.release()
    await ended
  })
})

test('the limit on waiting sessions of one tenant refuses more, and makes room for one when one leaves', async () => {
  const { acquire, pool } = await openPool({ size: { min: 1, max: 1 }, tenant: { sessions: false, waiting: 2 } })
  await acquire('x')
  const leaving = new AbortController()
  void acquire('a1', { tenant: 'a', signal: leaving.signal })
  void acquire('a2', { tenant: 'a' })
  const error = await rejection(acquire('a3', { tenant: 'a' }))
  expect(error).toMatchObject({ code: 'TENANT_LIMIT' })
  expect(error.message).toContain('it waits for 2 sessions already (tenant.waiting)')
  leaving.abort()
  void acquire('a3', { tenant: 'a' })
  expect(await rejection(acquire('a4', { tenant: 'a' }))).toMatchObject({ code: 'TENANT_LIMIT' })
  expect(pool.stats()).toMatchObject({ queue: { sessions: 2 }, tenants: 1 })
})

describe('what a tenant holds is given back', () => {
  const options = { size: { min: 1, max: 1 }, tenant: { sessions: 1 } }

  test.each(['timeout', 'abort', 'drain', 'queue full'])('when its session does not get a worker: %s', async (why) => {
    const { acquire, clock, pool } = await openPool({ ...options, queue: { limit: why === 'queue full' ? 0 : 1 } })
    await acquire('x')
    const abort = new AbortController()
    const waiting = acquire('a', { tenant: 'a', timeout: 100, signal: abort.signal })
    if (why === 'timeout') await clock.advance(100)
    if (why === 'abort') abort.abort()
    if (why === 'drain') void pool.drain()
    await rejection(waiting)
    expect(pool.stats().tenants).toBe(0)
  })

  test.each(['end', 'expiry', 'loss', 'close'])('when its session is over: %s', async (why) => {
    const backend = new FakeBackend()
    const { acquire, clock, pool } = await openPool({ ...options, session: { idleTtl: 100 } }, backend)
    const lease = await acquire('a', { tenant: 'a' })
    expect(pool.stats().tenants).toBe(1)
    if (why === 'loss') backend.worker(lease.worker.id).exit()
    lease.release()
    if (why === 'end') await pool.end('a')
    if (why === 'close') void pool.close()
    await clock.advance(100)
    expect(pool.stats().tenants).toBe(0)
  })

  test('when everybody left while the grant was on its way', async () => {
    const { acquire, clock, pool } = await openPool({ ...options, size: { min: 0, max: 1 } })
    const abort = new AbortController()
    const off = pool.on('worker.ready', () => {
      off()
      abort.abort()
    })
    await rejection(acquire('a', { tenant: 'a', signal: abort.signal }))
    await clock.advance(0)
    expect(pool.stats()).toMatchObject({ tenants: 0, sessions: { active: 0, idle: 0, closing: 0 } })
  })
})

test.each([
  [{ tenant: '' }, 'tenant'],
  [{ tenant: 7 as never }, 'tenant'],
])('%j is refused', async (options, option) => {
  const { acquire } = await openPool()
  expect(await rejection(acquire('a', options))).toMatchObject({ code: 'INVALID_OPTION', option })
})

test.each([
  [{ sessions: 0 }, 'tenant.sessions'],
  [{ waiting: 1.5 }, 'tenant.waiting'],
])('tenant: %j is refused', async (tenant, option) => {
  await expect(openPool({ tenant })).rejects.toMatchObject({ code: 'INVALID_OPTION', option })
})
