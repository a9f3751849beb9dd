import { describe, expect, test } from 'vitest'
import { FakeBackend } from '../support/fake-backend.ts'
import { openPool } from '../support/scene.ts'
import { settled } from '../support/virtual-clock.ts'

describe('the pool grows', () => {
  test('to keep warm spares beyond the workers in use', async () => {
    const { acquire, pool } = await openPool({ size: { min: 1, max: 5, warm: 1 } })
    expect(pool.stats().size).toEqual({ min: 1, max: 5, warm: 1 })
    await settled()
    expect(pool.stats().workers).toMatchObject({ healthy: 2, total: 2 })
    await acquire('a')
    await acquire('b')
    await settled()
    expect(pool.stats().workers).toMatchObject({ leased: 2, healthy: 1, total: 3 })
  })

  test('so that a warm spare serves a new session at once', async () => {
    const { acquire } = await openPool({ size: { min: 0, max: 5, warm: 1 } })
    await settled()
    await acquire('a', { timeout: 0 })
    await settled()
    await acquire('b', { timeout: 0 })
  })

  test('by at most startConcurrency starts at a time', async () => {
    const backend = new FakeBackend({ ready: false })
    const { acquire, pool } = await openPool({ size: { min: 0, max: 10, startConcurrency: 3 } }, backend)
    const waiting = Array.from({ length: 7 }, (_, i) => acquire(`s${i}`))
    await settled()
    expect(pool.stats().workers.spawning).toBe(3)
    backend.alive[0]?.becomeReady()
    await settled()
    expect(pool.stats()).toMatchObject({ pendingAdds: 3, workers: { leased: 1, spawning: 3 } })
    backend.behaviour = {}
    for (const worker of backend.workers) worker.becomeReady()
    await Promise.all(waiting)
    expect(backend.peak).toBe(7)
  })

  test('by one worker for many who wait for one id', async () => {
    const { acquire, backend } = await openPool({ size: { min: 0, max: 10 } })
    await Promise.all(Array.from({ length: 50 }, () => acquire('a')))
    expect(backend.calls).toBe(1)
  })
})

describe('the pool shrinks', () => {
  const size = { min: 1, max: 5, shrinkAfter: 1_000 }

  test('to its minimum after a quiet time', async () => {
    const { acquire, pool, clock, told } = await openPool({ size, session: { reuse: 'dirty' } })
    const leases = await Promise.all(['a', 'b', 'c', 'd'].map((id) => acquire(id)))
    for (const lease of leases) lease.release()
    await Promise.all(['a', 'b', 'c', 'd'].map((id) => pool.end(id)))
    expect(pool.stats().workers).toMatchObject({ healthy: 4, total: 4 })
    await clock.advance(999)
    expect(pool.stats().workers.total).toBe(4)
    // One count of the time serves all: a worker that became idle within one is stopped by the next.
    await clock.advance(1_001)
    expect(pool.stats().workers).toMatchObject({ healthy: 1, total: 1 })
    expect(told('worker.dead')).toHaveLength(3)
  })

  test('to its minimum and its warm spares', async () => {
    const { acquire, pool, clock } = await openPool({ size: { ...size, warm: 1 }, session: { reuse: 'dirty' } })
    const ids = ['a', 'b', 'c', 'd']
    const leases = await Promise.all(ids.map((id) => acquire(id)))
    for (const lease of leases) lease.release()
    await Promise.all(ids.map((id) => pool.end(id)))
    await clock.advance(5_000)
    expect(pool.stats().workers).toMatchObject({ healthy: 2, total: 2 })
  })

  test('by those that have been idle the longest, and leases the most recent one', async () => {
    const { acquire, pool, clock, backend } = await openPool({ size, session: { reuse: 'dirty' } })
    const leases = await Promise.all(['a', 'b', 'c'].map((id) => acquire(id)))
    const workers = leases.map(({ worker }) => worker.id)
    for (const [i, id] of ['a', 'b', 'c'].entries()) {
      leases[i]?.release()
      await pool.end(id)
      await clock.advance(10)
    }
    expect((await acquire('d')).worker.id).toBe(workers[2])
    await clock.advance(5_000)
    // The first two idled longest; the third is in use and is all that the pool needs.
    expect(backend.alive.map(({ id }) => id)).toEqual([workers[2]])
  })

  test('never by a leased worker', async () => {
    const { acquire, pool, clock } = await openPool({ size: { ...size, min: 0 }, session: { idleTtl: false } })
    const leases = await Promise.all(['a', 'b', 'c'].map((id) => acquire(id)))
    leases[0]?.release()
    await clock.advance(100_000)
    expect(pool.stats().workers).toMatchObject({ leased: 3, total: 3 })
    expect(leases.every(({ signal }) => !signal.aborted)).toBe(true)
  })

  test('not while the workers are needed now and then', async () => {
    const { acquire, pool, clock } = await openPool({
      size: { ...size, min: 0, max: 2 },
      session: { reuse: 'dirty', idleTtl: 0 },
    })
    for (let i = 0; i < 10; i++) {
      const leases = await Promise.all([acquire('a'), acquire('b')])
      for (const lease of leases) lease.release()
      await clock.advance(600)
    }
    expect(pool.stats().totals.workersStarted).toBe(2)
  })

  test('by as many as were never needed in that time', async () => {
    const { acquire, pool, clock } = await openPool({
      size: { ...size, min: 0 },
      session: { reuse: 'dirty', idleTtl: 0 },
    })
    const ids = ['a', 'b', 'c', 'd']
    const leases = await Promise.all(ids.map((id) => acquire(id)))
    for (const lease of leases) lease.release()
    await clock.advance(500)
    const again = [await acquire('a'), await acquire('b')]
    for (const lease of again) lease.release()
    await clock.advance(500)
    expect(pool.stats().workers.total).toBeGreaterThanOrEqual(2)
    await clock.advance(1_000)
    expect(pool.stats().workers.total).toBe(0)
  })

  test('with shrinkAfter 0 at once', async () => {
    const { acquire, pool, clock } = await openPool({
      size: { ...size, min: 0, shrinkAfter: 0 },
      session: { reuse: 'dirty' },
    })
    const lease = await acquire('a')
    lease.release()
    await pool.end('a')
    await clock.advance(0)
    expect(pool.stats().workers.total).toBe(0)
  })

  test('and grows again while the shrunk ones are still stopping, never above max', async () => {
    const backend = new FakeBackend({ stops: false })
    const scene = await openPool(
      { size: { min: 0, max: 2, shrinkAfter: 100 }, session: { reuse: 'dirty', idleTtl: 0 } },
      backend,
    )
    const { acquire, clock, pool } = scene
    for (const lease of await Promise.all([acquire('a'), acquire('b')])) lease.release()
    await clock.advance(200)
    expect(pool.stats().workers).toMatchObject({ draining: 2, total: 2 })
    const waiting = [acquire('c'), acquire('d')]
    await settled()
    expect(backend.calls).toBe(2)
    await clock.advance(backend.stopGrace)
    await Promise.all(waiting)
    expect(backend.peak).toBe(2)
  })
})

test('at rest the pool is back at `min + warm`, all of it idle', async () => {
  const { acquire, pool, clock, backend } = await openPool({
    size: { min: 2, max: 6, warm: 1, shrinkAfter: 1_000 },
    session: { idleTtl: 500 },
  })
  const leases = await Promise.all(['a', 'b', 'c', 'd', 'e'].map((id) => acquire(id)))
  backend.worker(leases[0]!.worker.id).exit()
  for (const lease of leases) lease.release()
  await clock.advance(30_000)
  expect(pool.stats().workers).toEqual({
    total: 3,
    healthy: 3,
    spawning: 0,
    leased: 0,
    resetting: 0,
    draining: 0,
    restarting: 0,
  })
})
