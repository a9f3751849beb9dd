import { describe, expect, test } from 'vitest'
import { FakeBackend, type Step } from '../support/fake-backend.ts'
import { openPool, rejection } from '../support/scene.ts'
import { settled } from '../support/virtual-clock.ts'

const fails: Step = (worker) => {
  worker.lines = ['cannot bind']
  worker.exit({ exitCode: 3 })
}

const options = { size: { min: 0, max: 4, startConcurrency: 1 }, breaker: { failures: 3, cooldown: 1_000 } }

async function openBreaker(more: Parameters<typeof openPool>[0] = {}) {
  const scene = await openPool({ ...options, ...more }, new FakeBackend({ ready: false }))
  scene.backend.script.push(fails, fails, fails)
  const first = scene.acquire('first')
  const error = await rejection(first)
  expect(scene.pool.stats().breaker).toBe('open')
  return { ...scene, error }
}

describe('the breaker', () => {
  test('opens after failures in a row, and refuses who waits with the cause and the last output', async () => {
    const { error, told, backend } = await openBreaker()
    expect(error).toMatchObject({ code: 'WORKER_START_FAILED', exitCode: 3, output: ['cannot bind'] })
    expect(error.message).toContain('cannot bind')
    expect(told('pool.breakerOpened')).toEqual([
      { type: 'pool.breakerOpened', error: expect.objectContaining({ code: 'WORKER_START_FAILED', exitCode: 3 }) },
    ])
    expect(backend.calls).toBe(3)
  })

  test('one failure less does not open it', async () => {
    const { pool, backend, told } = await openPool(options)
    backend.script.push(fails, fails)
    const lease = await pool.acquire('a')
    expect(told('pool.breakerOpened')).toEqual([])
    expect(pool.stats().totals.workersCrashed).toBe(2)
    lease.release()
  })

  test('refuses at once while it is open, and starts nothing', async () => {
    const { acquire, backend, clock } = await openBreaker()
    const results = await Promise.all(['a', 'b', 'b'].map((id) => rejection(acquire(id))))
    expect(results.map(({ code }) => code)).toEqual(Array.from({ length: 3 }, () => 'WORKER_START_FAILED'))
    await clock.advance(999)
    expect(backend.calls).toBe(3)
  })

  test('starts nothing by itself after the cool-down when nobody needs a worker', async () => {
    const { pool, backend, clock, told } = await openBreaker()
    await clock.advance(1_000)
    expect(pool.stats().breaker).toBe('halfOpen')
    expect(told('pool.breakerHalfOpened')).toHaveLength(1)
    expect(backend.calls).toBe(3)
  })

  test('half open, tries one start at a time whatever the demand, and closes when it succeeds', async () => {
    const { pool, backend, clock, told } = await openBreaker({ size: { min: 0, max: 4, startConcurrency: 4 } })
    await clock.advance(1_000)
    const calls = backend.calls
    const waiting = ['a', 'b', 'c'].map((id) => pool.acquire(id))
    await settled()
    expect(backend.calls - calls).toBe(1)
    expect(pool.stats()).toMatchObject({ breaker: 'halfOpen', workers: { total: 1, spawning: 1 } })
    backend.behaviour = {}
    backend.alive[0]?.becomeReady()
    await Promise.all(waiting)
    expect(pool.stats()).toMatchObject({ breaker: 'closed', pendingAdds: 0, workers: { total: 3, leased: 3 } })
    expect(told('pool.breakerClosed')).toHaveLength(1)
    expect(told('worker.ready')).toHaveLength(3)
  })

  test('half open, opens again when the probe fails, and refuses who waited for it', async () => {
    const { acquire, pool, backend, clock, told } = await openBreaker()
    await clock.advance(1_000)
    const waiting = [acquire('a'), acquire('b')]
    await settled()
    const probe = backend.alive[0]
    if (probe) probe.lines = ['still cannot bind']
    probe?.exit({ exitCode: 4 })
    for (const waiter of waiting) {
      expect(await rejection(waiter)).toMatchObject({ code: 'WORKER_START_FAILED', output: ['still cannot bind'] })
    }
    expect(pool.stats()).toMatchObject({ breaker: 'open', pendingAdds: 0, workers: { total: 0 } })
    expect(pool.stats().totals.workersCrashed).toBe(4)
    expect(told('worker.crashed')).toHaveLength(4)
    expect(told('pool.breakerOpened')).toHaveLength(2)
    await clock.advance(999)
    expect(pool.stats().breaker).toBe('open')
    await clock.advance(1)
    expect(pool.stats().breaker).toBe('halfOpen')
  })

  test('counts anew once it has closed', async () => {
    const { pool, backend, clock, told } = await openBreaker()
    await clock.advance(1_000)
    backend.behaviour = {}
    const lease = await pool.acquire('a')
    expect(pool.stats().breaker).toBe('closed')
    backend.script.push(fails, fails)
    const other = await pool.acquire('b')
    expect(told('pool.breakerOpened')).toHaveLength(1)
    lease.release()
    other.release()
  })

  test('still leases idle workers and serves live sessions while it is open', async () => {
    const scene = await openPool({ ...options, size: { min: 2, max: 4 } })
    const { pool, backend } = scene
    const live = await pool.acquire('live')
    backend.script.push(fails, fails, fails)
    const idle = await pool.acquire('idle')
    const refused = await rejection(pool.acquire('refused'))
    expect(refused.code).toBe('WORKER_START_FAILED')
    expect(pool.stats().breaker).toBe('open')
    expect((await pool.acquire('live')).worker).toBe(live.worker)
    expect((await pool.acquire('idle')).worker).toBe(idle.worker)
  })

  test('leases an idle worker to a new session while it is open', async () => {
    const { acquire, pool, backend } = await openPool({
      ...options,
      size: { min: 3, max: 4 },
      restart: { limit: 0 },
    })
    backend.script.push(fails, fails)
    backend.worker('w1').exit()
    await settled()
    expect(pool.stats()).toMatchObject({ breaker: 'open', workers: { total: 2, healthy: 2 } })
    const leases = [await acquire('a'), await acquire('b')]
    expect(leases.map(({ worker }) => worker.id).sort()).toEqual(['w2', 'w3'])
    expect((await rejection(acquire('c'))).code).toBe('WORKER_START_FAILED')
  })

  test('is not closed by a worker that comes back from a session: that proves nothing about starts', async () => {
    const { pool, backend, clock } = await openPool({
      ...options,
      size: { min: 1, max: 4 },
      session: { reuse: 'dirty' },
    })
    const lease = await pool.acquire('a')
    backend.script.push(fails, fails, fails)
    expect((await rejection(pool.acquire('b'))).code).toBe('WORKER_START_FAILED')
    lease.release()
    await pool.end('a')
    expect(pool.stats()).toMatchObject({ breaker: 'open', workers: { healthy: 1 } })
    await clock.advance(1_000)
    expect(pool.stats().breaker).toBe('halfOpen')
    const next = await pool.acquire('c')
    next.release()
    await pool.end('c')
    expect(pool.stats().breaker).toBe('halfOpen')
  })

  test('opens when idle workers keep dying before their first session', async () => {
    const { pool, backend, told } = await openPool({
      ...options,
      size: { min: 1, max: 4 },
      restart: { limit: 0 },
      breaker: { failures: 2, cooldown: 1_000 },
    })
    backend.alive[0]?.exit()
    await settled()
    expect(told('pool.breakerOpened')).toHaveLength(0)
    backend.alive[0]?.exit()
    await settled()
    expect(told('pool.breakerOpened')).toHaveLength(1)
    expect(pool.stats()).toMatchObject({ breaker: 'open', workers: { total: 0 } })
  })

  test('a pool below its minimum probes by itself after the cool-down', async () => {
    const { pool, backend, clock } = await openPool({
      ...options,
      size: { min: 2, max: 4 },
      restart: { limit: 0 },
      breaker: { failures: 1, cooldown: 1_000 },
    })
    for (const worker of backend.alive) worker.exit()
    await settled()
    expect(pool.stats()).toMatchObject({ breaker: 'open', workers: { total: 0 } })
    await clock.advance(1_000)
    expect(pool.stats()).toMatchObject({ breaker: 'closed', workers: { total: 2, healthy: 2 } })
  })
})
