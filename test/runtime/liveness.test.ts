import { describe, expect, test } from 'vitest'
import { FakeBackend } from '../support/fake-backend.ts'
import { openPool } from '../support/scene.ts'

/** Probes every 100 ms, each with 50 ms of time; the third failure in a row counts. */
const { liveness } = new FakeBackend()

describe('a worker that does not answer its probes', () => {
  test('is killed after as many failures in a row as allowed, and its session is lost as unhealthy', async () => {
    const { acquire, backend, clock, told } = await openPool()
    const lease = await acquire('a')
    const worker = backend.worker('w1')
    worker.answers = 'no'
    worker.lines = ['deadlock']
    await clock.advance(2 * liveness.interval)
    expect(worker.probes).toBe(2)
    expect(lease.signal.aborted).toBe(false)
    await clock.advance(liveness.interval)
    expect(worker.kills).toBeGreaterThan(0)
    expect(told('session.lost')).toMatchObject([{ sessionId: 'a', reason: 'unhealthy', output: ['deadlock'] }])
    expect(lease.signal.reason).toMatchObject({ code: 'SESSION_LOST', reason: 'unhealthy' })
    expect(told('worker.draining')).toMatchObject([{ failure: { code: 'WORKER_UNHEALTHY', message: 'no answer' } }])
    expect(told('worker.crashed')).toMatchObject([{ failure: { code: 'WORKER_UNHEALTHY', signal: 'SIGKILL' } }])
  })

  test('is not leased once it was given up, even if its process does not die', async () => {
    const backend = new FakeBackend({ dies: false })
    const { acquire, clock, pool } = await openPool({ size: { min: 1, max: 2 } }, backend)
    backend.worker('w1').answers = 'no'
    await clock.advance(3 * liveness.interval)
    expect(pool.stats().workers.draining).toBe(1)
    expect((await acquire('a')).worker.id).toBe('w2')
    backend.worker('w1').exit({ signal: 'SIGKILL' })
  })

  test('is forgiven when it answers in between', async () => {
    const { backend, clock, told } = await openPool()
    const worker = backend.worker('w1')
    for (let i = 0; i < 5; i++) {
      worker.answers = 'no'
      await clock.advance(2 * liveness.interval)
      worker.answers = 'yes'
      await clock.advance(liveness.interval)
    }
    expect(told('worker.crashed')).toEqual([])
    expect(worker.isAlive).toBe(true)
  })

  test('in time has failed the probe, and the probe is given up', async () => {
    const { backend, clock, told } = await openPool()
    const worker = backend.worker('w1')
    worker.answers = 'never'
    await clock.advance(liveness.interval + liveness.timeout)
    expect(worker.abandoned).toBe(1)
    await clock.advance(2 * (liveness.interval + liveness.timeout))
    expect(told('worker.crashed')).toMatchObject([{ failure: { code: 'WORKER_UNHEALTHY' } }])
    expect(told('worker.crashed')[0]?.failure.message).toContain('50 ms')
    expect(worker.abandoned).toBe(3)
  })
})

describe('a worker that is busy', () => {
  test('is not given up while bytes move on its connections', async () => {
    const { acquire, backend, clock, told } = await openPool()
    const lease = await acquire('a')
    backend.worker('w1').answers = 'no'
    for (let i = 0; i < 20; i++) {
      await clock.advance(liveness.interval / 2)
      lease.touch()
      await clock.advance(liveness.interval / 2)
    }
    expect(told('session.lost')).toEqual([])
    await clock.advance(3 * liveness.interval)
    expect(told('session.lost')).toHaveLength(1)
  })

  test('is not helped by bytes of another worker', async () => {
    const { acquire, backend, clock, told } = await openPool({ size: { min: 2 } })
    const [a, b] = [await acquire('a'), await acquire('b')]
    backend.worker(a.worker.id).answers = 'no'
    for (let i = 0; i < 4; i++) {
      b.touch()
      await clock.advance(liveness.interval)
    }
    expect(told('session.lost').map(({ sessionId }) => sessionId)).toEqual(['a'])
  })
})

describe('probes', () => {
  test('are not made with interval 0', async () => {
    const backend = new FakeBackend()
    backend.liveness = { ...liveness, interval: 0 }
    const { clock } = await openPool({}, backend)
    expect(clock.pending).toBe(0)
    await clock.advance(100_000)
    expect(backend.worker('w1').probes).toBe(0)
  })

  test('are made while the worker is idle too, and end with it', async () => {
    const { backend, clock, pool } = await openPool()
    await clock.advance(5 * liveness.interval)
    const { probes } = backend.worker('w1')
    expect(probes).toBe(5)
    await pool.close()
    await clock.advance(5 * liveness.interval)
    expect(backend.worker('w1').probes).toBe(probes)
  })

  test('go on across sessions of a reused worker', async () => {
    const { acquire, pool, backend, clock, told } = await openPool({ session: { reuse: 'dirty' } })
    backend.worker('w1').answers = 'no'
    await clock.advance(2 * liveness.interval)
    const lease = await acquire('a')
    lease.release()
    await pool.end('a')
    await clock.advance(liveness.interval)
    expect(told('worker.crashed')).toHaveLength(1)
  })

  test('of a worker that was restarted begin anew', async () => {
    const { backend, clock, told } = await openPool({ restart: { minDelay: 0, maxDelay: 0 } })
    backend.worker('w1').answers = 'no'
    await clock.advance(3 * liveness.interval)
    expect(told('worker.crashed')).toHaveLength(1)
    await clock.advance(10 * liveness.interval)
    expect(backend.worker('w1').probes).toBeGreaterThanOrEqual(9)
    expect(told('worker.crashed')).toHaveLength(1)
  })
})
