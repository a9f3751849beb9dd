import { createPool } from 'corral'
import { describe, expect, test } from 'vitest'
import { systemClock, toEpoch } from '../../src/runtime/clock.ts'
import { FakeBackend } from '../support/fake-backend.ts'
import { openPool } from '../support/scene.ts'
import { settled, VirtualClock } from '../support/virtual-clock.ts'

describe('the list of sessions', () => {
  test('tells of each its worker, its state, its age and its connections', async () => {
    const { acquire, clock, pool } = await openPool({ size: { min: 3 } })
    expect(pool.sessions()).toEqual([])
    await clock.advance(100)
    const busy = await acquire('busy')
    await acquire('busy')
    await clock.advance(100)
    const idle = await acquire('idle')
    const closing = await acquire('closing')
    await clock.advance(100)
    idle.release()
    void pool.end('closing')
    await clock.advance(100)
    expect(pool.sessions()).toEqual([
      {
        id: 'busy',
        token: 1,
        workerId: busy.worker.id,
        state: 'active',
        startedAt: 100,
        idleSince: undefined,
        leases: 2,
      },
      { id: 'idle', token: 2, workerId: idle.worker.id, state: 'idle', startedAt: 200, idleSince: 300, leases: 0 },
      {
        id: 'closing',
        token: 3,
        workerId: closing.worker.id,
        state: 'closing',
        startedAt: 200,
        idleSince: undefined,
        leases: 1,
      },
    ])
    await acquire('idle')
    expect(pool.sessions()[1]).toMatchObject({ state: 'active', idleSince: undefined, leases: 1 })
  })

  test('has no session that waits, and none that is over', async () => {
    const { acquire, pool } = await openPool({ size: { min: 0, max: 1 } })
    const lease = await acquire('a')
    void acquire('b')
    expect(pool.sessions().map(({ id }) => id)).toEqual(['a'])
    lease.release()
    await pool.end('a')
    expect(pool.sessions().map(({ id }) => id)).not.toContain('a')
  })
})

describe('the list of workers', () => {
  test('tells of each its state, its process, its session and its last lines', async () => {
    const backend = new FakeBackend()
    backend.script.push((worker) => worker.lines.push('one', 'two'))
    const { acquire, clock, pool } = await openPool({ size: { min: 1, max: 2 } }, backend)
    await clock.advance(100)
    backend.behaviour.ready = false
    await acquire('a')
    void acquire('b')
    await settled()
    const [first, second] = backend.workers
    expect(pool.workers()).toEqual([
      {
        id: 'w1',
        state: 'leased',
        pid: first?.pid,
        address: first?.address,
        incarnation: 0,
        startedAt: 0,
        sessionId: 'a',
        output: ['one', 'two'],
      },
      {
        id: 'w2',
        state: 'spawning',
        pid: second?.pid,
        address: second?.address,
        incarnation: 0,
        startedAt: 100,
        sessionId: undefined,
        output: [],
      },
    ])
  })

  test('shows a worker before its process, between two processes, and after', async () => {
    const backend = new FakeBackend()
    const { acquire, clock, pool } = await openPool({ size: { min: 0, max: 1 }, restart: { minDelay: 1_000 } }, backend)
    backend.behaviour.launches = false
    const waiting = acquire('a')
    await settled()
    const none = { pid: undefined, address: undefined, sessionId: undefined }
    expect(pool.workers()).toMatchObject([{ id: 'w1', state: 'spawning', ...none, startedAt: 0, output: [] }])
    backend.letGo()
    await waiting
    const [process] = backend.workers
    process?.lines.push('last words')
    process?.exit()
    await settled()
    expect(pool.workers()).toMatchObject([
      { id: 'w1', state: 'restarting', ...none, startedAt: undefined, incarnation: 0, output: ['last words'] },
    ])
    await clock.advance(1_000)
    const [worker] = pool.workers()
    expect(worker).toMatchObject({ id: 'w1', state: 'healthy', incarnation: 1, pid: backend.workers[1]?.pid })
    expect(worker?.startedAt).toBeGreaterThan(0)
    await pool.close()
    expect(pool.workers()).toEqual([])
  })
})

test('what a backend tells of its isolation stands in the stats', async () => {
  const isolation = { level: 'group', missing: ['limits.disk'] }
  const backend = Object.assign(new FakeBackend(), { status: () => isolation })
  expect((await openPool({}, backend)).pool.stats().isolation).toEqual(isolation)
  expect((await openPool()).pool.stats()).not.toHaveProperty('isolation')
})

describe('times', () => {
  test('are since the Unix epoch, by the origin that the clock of the pool names', async () => {
    const clock = Object.assign(new VirtualClock(), { timeOrigin: 1_700_000_000_000 })
    await clock.advance(250)
    await using pool = await createPool({ worker: new FakeBackend(), clock })
    using _ = await pool.acquire('a')
    expect(pool.sessions()).toMatchObject([{ startedAt: 1_700_000_000_250 }])
    expect(pool.workers()[0]).toMatchObject({ startedAt: 1_700_000_000_250 })
  })

  test('of the system clock are those of the wall clock', () => {
    const before = Date.now()
    const shown = toEpoch(systemClock, systemClock.now())
    // The wall clock may have been set since this process started; not by more than this in a test.
    expect(Math.abs(shown - before)).toBeLessThan(5_000)
  })
})
