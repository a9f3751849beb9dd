import { describe, expect, test } from 'vitest'
import { weigh } from '../../src/runtime/pressure.ts'
import { FakeBackend } from '../support/fake-backend.ts'
import { FakeHost } from '../support/fake-host.ts'
import { isSettled, openPool, rejection, startPool, type SceneOptions } from '../support/scene.ts'
import { settled } from '../support/virtual-clock.ts'

async function pressedPool(options: SceneOptions = {}, backend = new FakeBackend()) {
  const host = new FakeHost()
  const scene = await openPool({ pressure: { memory: 0.8 }, ...options, host }, backend)
  host.sample({ memory: 0.8 })
  return { ...scene, host }
}

describe('while the host is pressed', () => {
  test('live sessions are served, and new ones wait until it is relieved', async () => {
    const host = new FakeHost()
    const { acquire, pool, backend, told } = await openPool({ size: { min: 2 }, pressure: { memory: 0.8 }, host })
    const live = await acquire('live')
    host.sample({ memory: 0.9 })
    expect(pool.stats()).toMatchObject({ pressure: 'pressed', host: { memory: { used: 900, total: 1_000 } } })
    expect(await isSettled(acquire('live'))).toBe(true)
    const waiting = acquire('new')
    expect(await isSettled(waiting)).toBe(false)
    expect(pool.stats()).toMatchObject({ queue: { sessions: 1 }, workers: { healthy: 1 } })
    expect(backend.workers).toHaveLength(2)
    host.sample({ memory: 0.7 })
    expect((await waiting).session.id).toBe('new')
    expect(live.signal.aborted).toBe(false)
    expect(told('pool.pressed')).toEqual([{ type: 'pool.pressed', cpu: 0, memory: 0.9 }])
    expect(told('pool.relieved')).toEqual([{ type: 'pool.relieved', cpu: 0, memory: 0.7 }])
  })

  test('new ones are refused instead, where that is asked for, and those that wait keep their place', async () => {
    const host = new FakeHost()
    const { acquire, pool } = await openPool({
      size: { min: 0, max: 1 },
      pressure: { cpu: 0.5, action: 'refuse' },
      host,
    })
    const live = await acquire('live')
    const early = acquire('early')
    host.sample({ cpu: 0.5 })
    expect(await rejection(acquire('late'))).toMatchObject({ code: 'HOST_PRESSURE' })
    live.release()
    await pool.end('live')
    expect(await isSettled(early)).toBe(false)
    host.sample({ cpu: 0 })
    expect((await early).session.id).toBe('early')
  })

  test('no worker is started, but to keep the minimum', async () => {
    const { acquire, backend, clock, pool, host } = await pressedPool({ size: { min: 1, max: 4, warm: 0 } })
    void acquire('a')
    void acquire('b')
    await clock.advance(0)
    expect(backend.workers).toHaveLength(1)
    await pool.drainWorker('w1')
    await clock.advance(0)
    expect(pool.stats().workers).toMatchObject({ total: 1, healthy: 1 })
    host.sample({ memory: 0 })
    await clock.advance(0)
    expect(pool.stats()).toMatchObject({ workers: { leased: 2 }, queue: { sessions: 0 } })
  })

  test('spares are not kept ready', async () => {
    const host = new FakeHost()
    const { acquire, clock, pool } = await openPool({
      size: { min: 1, warm: 1, max: 4 },
      pressure: { memory: 0.8 },
      host,
    })
    await acquire('a')
    await acquire('b')
    await clock.advance(0)
    host.sample({ memory: 1 })
    await pool.drainWorker('w3')
    await clock.advance(0)
    expect(pool.stats().workers.total).toBe(2)
    host.sample({ memory: 0 })
    await clock.advance(0)
    expect(pool.stats().workers.total).toBe(3)
  })

  test('the limit of the queue holds though workers are idle', async () => {
    const { acquire, pool } = await pressedPool({ size: { min: 2 }, queue: { limit: 1 } })
    void acquire('a')
    expect(await rejection(acquire('b'))).toMatchObject({ code: 'QUEUE_FULL' })
    expect(pool.stats().queue.sessions).toBe(1)
  })

  test('sessions that wait time out as ever', async () => {
    const { acquire, clock } = await pressedPool()
    const waiting = acquire('a', { timeout: 100 })
    await clock.advance(100)
    expect(await rejection(waiting)).toMatchObject({ code: 'ACQUIRE_TIMEOUT' })
  })

  test('the minimum is probed for after starts have failed, and nothing more', async () => {
    const backend = new FakeBackend()
    const { acquire, clock, pool } = await pressedPool(
      { size: { min: 1, max: 3 }, breaker: { failures: 1, cooldown: 1_000 } },
      backend,
    )
    backend.script.push((worker) => worker.exit({ exitCode: 2 }))
    await pool.drainWorker('w1')
    await settled()
    expect(pool.stats().breaker).toBe('open')
    await clock.advance(1_000)
    expect(pool.stats()).toMatchObject({ breaker: 'closed', workers: { total: 1, healthy: 1 } })
    void acquire('a')
    await clock.advance(0)
    expect(pool.stats()).toMatchObject({ workers: { total: 1 }, queue: { sessions: 1 } })
  })

  test('the pool can be drained', async () => {
    const { acquire, pool } = await pressedPool()
    const waiting = acquire('a')
    await pool.drain()
    expect(await rejection(waiting)).toMatchObject({ code: 'POOL_DRAINING' })
    expect(pool.stats().pressure).toBe('relieved')
  })
})

describe('the host', () => {
  test('is shown as it was sampled last, and changes nothing without a mark', async () => {
    const host = new FakeHost()
    const { pool, events } = await openPool({ host })
    expect(pool.stats().host).toBeNull()
    const usage = host.sample({ cpu: 1, memory: 1 })
    expect(pool.stats()).toMatchObject({ host: usage, pressure: 'relieved' })
    expect(events).toEqual([])
  })

  test('is news to the charts only when it becomes pressed or relieved', async () => {
    const host = new FakeHost()
    const heard: string[] = []
    await openPool({
      host,
      pressure: { memory: 0.8 },
      inspect: (event) => {
        if (event.type === '@xstate.event' && event.event.type.startsWith('host.')) heard.push(event.event.type)
      },
    })
    for (const memory of [0.1, 0.7, 0.8, 0.9, 0.75, 0.1, 0.2]) host.sample({ memory })
    expect(heard).toEqual(['host.pressed', 'host.relieved'])
  })

  test('is looked at from the start of a pool to its end', async () => {
    const host = new FakeHost()
    const { pool } = await openPool({ host })
    expect(host.watched).toBe(1)
    await pool.close()
    expect(host.watched).toBe(0)
    host.sample({ memory: 1 })
    expect(pool.stats().host).toBeNull()
  })

  test('is not looked at any more when a pool could not start', async () => {
    const host = new FakeHost()
    const backend = new FakeBackend()
    backend.script.push((worker) => worker.exit())
    const { starting } = startPool({ host }, backend)
    await rejection(starting)
    expect(host.watched).toBe(0)
  })

  test('that is pressed while the pool starts is so from its first moment', async () => {
    const host = new FakeHost()
    const backend = new FakeBackend({ ready: false })
    const { starting } = startPool({ host, pressure: { memory: 0.8 } }, backend)
    await settled()
    host.sample({ memory: 0.9 })
    backend.worker('w1').becomeReady()
    const pool = await starting
    expect(pool.stats()).toMatchObject({ pressure: 'pressed', workers: { healthy: 1 } })
    await pool.close()
  })
})

describe('the marks', () => {
  const marks = { memory: 0.8, cpu: 0.5, resume: 0.9 }

  test.each<['relieved' | 'pressed', { cpu: number | null; memory: number | null }, 'relieved' | 'pressed']>([
    ['relieved', { cpu: 0.49, memory: 0.79 }, 'relieved'],
    ['relieved', { cpu: 0.5, memory: 0 }, 'pressed'],
    ['relieved', { cpu: 0, memory: 0.8 }, 'pressed'],
    ['relieved', { cpu: null, memory: null }, 'relieved'],
    ['pressed', { cpu: 0, memory: 0.73 }, 'pressed'],
    ['pressed', { cpu: 0.46, memory: 0 }, 'pressed'],
    ['pressed', { cpu: 0.44, memory: 0.71 }, 'relieved'],
    ['pressed', { cpu: null, memory: null }, 'relieved'],
  ])('%s at %j: %s', (now, use, next) => {
    expect(weigh(now, use, marks)).toBe(next)
  })

  test('that are false never press', () => {
    expect(weigh('relieved', { cpu: 1, memory: 1 }, { memory: false, cpu: false, resume: 1 })).toBe('relieved')
  })

  test.each([
    [{ memory: 0 }, 'pressure.memory'],
    [{ cpu: 1.1 }, 'pressure.cpu'],
    [{ resume: 0 }, 'pressure.resume'],
    [{ action: 'panic' as never }, 'pressure.action'],
  ])('%j is refused', async (pressure, option) => {
    await expect(openPool({ pressure })).rejects.toMatchObject({ code: 'INVALID_OPTION', option })
  })
})
