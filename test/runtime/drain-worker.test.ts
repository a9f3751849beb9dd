import type { Pool } from 'corral'
import { describe, expect, test } from 'vitest'
import { FakeBackend } from '../support/fake-backend.ts'
import { isSettled, openPool, rejection } from '../support/scene.ts'
import { settled } from '../support/virtual-clock.ts'

describe('draining one worker', () => {
  test('stops an idle one, resolves once it is dead, and another one takes its place', async () => {
    const backend = new FakeBackend({ stops: false })
    const { clock, pool, told } = await openPool({ size: { min: 2 } }, backend)
    const drained = pool.drainWorker('w1')
    expect(pool.stats().workers).toMatchObject({ total: 3, draining: 1, healthy: 1, spawning: 1 })
    expect(await isSettled(drained)).toBe(false)
    backend.worker('w1').exit({ exitCode: 0 })
    expect(await drained).toBe(true)
    expect(told('worker.dead')).toMatchObject([{ workerId: 'w1', reason: 'stopped' }])
    await clock.advance(0)
    expect(pool.workers().map(({ id, state }) => [id, state])).toEqual([
      ['w2', 'healthy'],
      ['w3', 'healthy'],
    ])
  })

  test('does not start another one that nobody needs', async () => {
    const { acquire, clock, pool } = await openPool({ size: { min: 1 } })
    const leases = [await acquire('a'), await acquire('b')]
    await pool.drainWorker(leases[0]?.worker.id ?? '', { deadline: 0 })
    await clock.advance(0)
    expect(pool.stats().workers).toMatchObject({ total: 1, leased: 1 })
  })

  test('leaves nothing of it in the actor of the pool', async () => {
    const { acquire, pool } = await openPool({ size: { min: 0 } })
    const lease = await acquire('a')
    expect(Object.keys(pool.actor.getSnapshot().children)).toHaveLength(1)
    await pool.drainWorker(lease.worker.id, { deadline: 0 })
    await settled()
    expect(Object.keys(pool.actor.getSnapshot().children)).toEqual([])
  })

  test('cannot be leased from that moment on', async () => {
    const backend = new FakeBackend({ stops: false })
    const { acquire, pool } = await openPool({ size: { min: 2 } }, backend)
    const drained = pool.drainWorker('w2')
    const lease = await acquire('a')
    expect(lease.worker.id).toBe('w1')
    backend.worker('w2').exit({ exitCode: 0 })
    expect(await drained).toBe(true)
  })

  test('lets its open connections finish, and takes no new ones', async () => {
    const { acquire, pool, told } = await openPool({ size: { max: 2 } })
    const lease = await acquire('a')
    const drained = pool.drainWorker(lease.worker.id)
    expect(pool.tryAcquire('a')).toBeUndefined()
    expect(pool.sessions()).toMatchObject([{ id: 'a', state: 'closing' }])
    const next = acquire('a')
    expect(await isSettled(drained)).toBe(false)
    lease.release()
    expect(await drained).toBe(true)
    expect(told('session.ended')).toMatchObject([{ sessionId: 'a', reason: 'drained' }])
    expect((await next).worker.id).not.toBe(lease.worker.id)
  })

  test('cuts them at the nearest of its deadlines', async () => {
    const { acquire, clock, pool } = await openPool()
    const lease = await acquire('a')
    const drained = [100_000, 1_000, 5_000].map((deadline) => pool.drainWorker(lease.worker.id, { deadline }))
    await clock.advance(999)
    expect(lease.signal.aborted).toBe(false)
    await clock.advance(1)
    expect(lease.signal.reason).toMatchObject({ code: 'SESSION_ENDED' })
    expect(await Promise.all(drained)).toEqual([true, true, true])
  })

  test.each<[string, object, (pool: Pool) => unknown]>([
    ['is ended for itself', {}, (pool) => pool.end('a')],
    ['has lived long enough', { maxLifetime: 4_000 }, () => {}],
    ['has been silent for too long', { idle: 'bytes', idleTtl: 4_000 }, () => {}],
  ])('cuts them sooner when its session %s', async (_why, session, act) => {
    const { acquire, clock, pool, told } = await openPool({ session: { grace: 1_000, ...session } })
    const lease = await acquire('a')
    const drained = pool.drainWorker(lease.worker.id, { deadline: 100_000 })
    await clock.advance(4_000)
    expect(pool.sessions()).toMatchObject([{ state: 'closing' }])
    act(pool)
    await clock.advance(999)
    expect(lease.signal.aborted).toBe(false)
    await clock.advance(1)
    expect(lease.signal.aborted).toBe(true)
    expect(told('session.ended')).toMatchObject([{ reason: 'drained' }])
    expect(await drained).toBe(true)
    await pool.close()
    expect(clock.pending).toBe(0)
  })

  test('never lets a later end of the session lengthen what they get', async () => {
    const { acquire, clock, pool } = await openPool({ session: { grace: 1_000 } })
    const lease = await acquire('a')
    const drained = pool.drainWorker(lease.worker.id, { deadline: 9_000 })
    const ended: unknown[] = []
    await clock.advance(8_500)
    ended.push(pool.end('a'))
    await clock.advance(499)
    ended.push(pool.end('a'))
    expect(lease.signal.aborted).toBe(false)
    await clock.advance(1)
    expect(lease.signal.aborted).toBe(true)
    expect(await Promise.all([drained, ...ended])).toEqual([true, true, true])
  })

  test('gives them 30 s by default', async () => {
    const { acquire, clock, pool } = await openPool()
    const lease = await acquire('a')
    const drained = pool.drainWorker(lease.worker.id)
    await clock.advance(29_999)
    expect(lease.signal.aborted).toBe(false)
    await clock.advance(1)
    expect(lease.signal.aborted).toBe(true)
    expect(await drained).toBe(true)
  })

  test('keeps its deadline when the pool is drained with a later one, and heeds an earlier one', async () => {
    const { acquire, clock, pool } = await openPool({ size: { min: 2 } })
    const [soon, late] = [await acquire('soon'), await acquire('late')]
    const drained = [
      pool.drainWorker(soon.worker.id, { deadline: 9_000 }),
      pool.drainWorker(soon.worker.id, { deadline: 1_000 }),
      pool.drainWorker(late.worker.id, { deadline: 9_000 }),
    ]
    const closed = pool.drain({ deadline: 3_000 })
    await clock.advance(999)
    expect([soon.signal.aborted, late.signal.aborted]).toEqual([false, false])
    await clock.advance(1)
    expect([soon.signal.aborted, late.signal.aborted]).toEqual([true, false])
    await clock.advance(2_000)
    expect(late.signal.aborted).toBe(true)
    expect(await Promise.all(drained)).toEqual([true, true, true])
    await closed
  })

  test('keeps the deadline of the pool when it is asked for after it', async () => {
    const { acquire, clock, pool } = await openPool()
    const lease = await acquire('a')
    const closed = pool.drain({ deadline: 1_000 })
    const drained = pool.drainWorker(lease.worker.id, { deadline: 9_000 })
    await clock.advance(1_000)
    expect(lease.signal.aborted).toBe(true)
    expect(await drained).toBe(true)
    await closed
  })

  test.each(['starting', 'restarting'])('ends one that is %s', async (state) => {
    const backend = new FakeBackend()
    const { acquire, clock, pool } = await openPool({ size: { min: 0 }, restart: { minDelay: 1_000 } }, backend)
    if (state === 'starting') backend.behaviour.ready = false
    const waiting = acquire('a')
    await settled()
    if (state === 'restarting') backend.worker('w1').exit()
    await clock.advance(0)
    backend.behaviour.ready = true
    expect(await pool.drainWorker('w1')).toBe(true)
    expect(pool.workers().map(({ id }) => id)).toEqual(state === 'starting' ? ['w2'] : [])
    expect((await waiting).worker.id).toBe(state === 'starting' ? 'w2' : 'w1')
  })

  test('is false for one that there is not, or no more', async () => {
    const { pool } = await openPool()
    expect(await pool.drainWorker('w7')).toBe(false)
    expect(await pool.drainWorker('toString')).toBe(false)
    expect(await pool.drainWorker('w1')).toBe(true)
    expect(await pool.drainWorker('w1')).toBe(false)
    await pool.close()
    expect(await pool.drainWorker('w2')).toBe(false)
  })

  test('resolves when the pool is closed with force meanwhile', async () => {
    const backend = new FakeBackend({ stops: false })
    const { pool } = await openPool({}, backend)
    const drained = pool.drainWorker('w1')
    await pool.close({ force: true })
    expect(await drained).toBe(true)
  })

  test('refuses a deadline that is none', async () => {
    const { pool } = await openPool()
    expect(await rejection(pool.drainWorker('w1', { deadline: -1 }))).toMatchObject({
      code: 'INVALID_OPTION',
      option: 'deadline',
    })
    expect(pool.stats().workers.healthy).toBe(1)
  })

  test('asked for by a listener, in the middle of what the pool tells, is heeded', async () => {
    const { acquire, clock, pool, told } = await openPool({ size: { min: 0, max: 1 } })
    const drains: Promise<boolean>[] = []
    const off = pool.on('worker.ready', ({ workerId }) => {
      off()
      drains.push(pool.drainWorker(workerId))
    })
    const lease = await acquire('a')
    await clock.advance(0)
    // Either it was leased before it heard of it, or another one serves.
    lease.release()
    expect(await Promise.all(drains)).toEqual([true])
    expect(told('worker.dead')).toMatchObject([{ workerId: 'w1', reason: 'stopped' }])
  })
})
