import { describe, expect, test } from 'vitest'
import { FakeBackend } from '../support/fake-backend.ts'
import { isSettled, openPool, rejection } from '../support/scene.ts'
import { settled } from '../support/virtual-clock.ts'

const empty = { size: { min: 0, max: 4 } }

describe('acquire', () => {
  test('20 concurrent calls for one new id get one worker, and the same one', async () => {
    const { pool, backend, acquire, told } = await openPool(empty)
    const leases = await Promise.all(Array.from({ length: 20 }, () => acquire('red')))
    expect(new Set(leases.map(({ worker }) => worker.id)).size).toBe(1)
    expect(new Set(leases.map(({ session }) => session)).size).toBe(1)
    expect(backend.calls).toBe(1)
    expect(told('session.started')).toHaveLength(1)
    expect(pool.stats()).toMatchObject({ leases: 20, sessions: { active: 1 }, workers: { leased: 1, total: 1 } })
  })

  test('distinct ids get distinct workers', async () => {
    const { acquire, backend } = await openPool(empty)
    const leases = await Promise.all(['a', 'b', 'c'].map((id) => acquire(id)))
    expect(new Set(leases.map(({ worker }) => worker.id)).size).toBe(3)
    expect(new Set(leases.map(({ worker }) => worker.pid)).size).toBe(3)
    expect(backend.alive).toHaveLength(3)
  })

  test('a live session is found without asking the pool', async () => {
    const { acquire, pool, events } = await openPool(empty)
    const first = await acquire('a')
    const before = events.length
    const second = await acquire('a')
    expect(second.worker).toBe(first.worker)
    expect(second.session).toBe(first.session)
    expect(second).not.toBe(first)
    expect(events).toHaveLength(before)
    expect(pool.stats().leases).toBe(2)
  })

  test('an idle worker is granted at once, without a timer', async () => {
    const { acquire, clock } = await openPool()
    const timers = clock.pending
    const lease = acquire('a')
    expect(clock.pending).toBe(timers)
    await lease
  })

  test('tells where the worker serves', async () => {
    const { acquire, backend } = await openPool()
    const { worker, session } = await acquire('a')
    const { pid, address } = backend.worker('w1')
    expect(worker).toEqual({ id: 'w1', pid, address })
    expect(session).toMatchObject({ id: 'a', token: 1, worker })
  })

  test('200 calls for 50 new ids with max 10 never make more than 10 processes, and are all answered', async () => {
    const { acquire, backend, pool } = await openPool({ size: { min: 0, max: 10 }, session: { idleTtl: 0 } })
    const ids = Array.from({ length: 200 }, (_, i) => `s${i % 50}`)
    const served = await Promise.all(
      ids.map(async (id) => {
        const lease = await acquire(id)
        await settled()
        lease.release()
        return lease.session.id
      }),
    )
    expect(served).toEqual(ids)
    expect(backend.peak).toBe(10)
    expect(pool.stats().totals.sessionsStarted).toBeGreaterThanOrEqual(50)
  })

  test('a process that is draining counts against max', async () => {
    const backend = new FakeBackend({ stops: false })
    const { acquire, pool, clock } = await openPool({ size: { min: 0, max: 1 }, session: { idleTtl: 0 } }, backend)
    const first = await acquire('a')
    first.release()
    expect(pool.stats().workers).toMatchObject({ draining: 1, total: 1 })
    const second = acquire('b')
    await settled()
    expect(backend.calls).toBe(1)
    await clock.advance(backend.stopGrace - 1)
    expect(backend.calls).toBe(1)
    await clock.advance(1)
    expect((await second).worker.id).toBe('w2')
    expect(backend.peak).toBe(1)
  })

  test('waiting sessions are served in the order of their arrival', async () => {
    const { acquire, pool } = await openPool({ size: { min: 1, max: 1 } })
    const order: string[] = []
    const waiting = ['a', 'b', 'c', 'd'].map(async (id) => {
      const lease = await acquire(id)
      order.push(id)
      lease.release()
      await pool.end(id)
    })
    await Promise.all(waiting)
    expect(order).toEqual(['a', 'b', 'c', 'd'])
  })

  test('joining the wait of an id does not change its place', async () => {
    const { acquire, pool } = await openPool({ size: { min: 1, max: 1 } })
    const first = await acquire('first')
    const order: string[] = []
    const waiting = ['a', 'b', 'a'].map(async (id) => {
      const lease = await acquire(id)
      order.push(id)
      lease.release()
    })
    first.release()
    await pool.end('first')
    await settled()
    await pool.end('a')
    await Promise.all(waiting)
    expect(order).toEqual(['a', 'a', 'b'])
  })
})

describe('acquire refuses', () => {
  test('a session beyond the queue limit, and nobody who joins one that waits already', async () => {
    const { acquire, pool } = await openPool({ size: { min: 1, max: 1 }, queue: { limit: 2 } })
    const live = await acquire('live')
    const waiting = [acquire('a'), acquire('b')]
    const refused = await rejection(acquire('c'))
    expect(refused).toMatchObject({ name: 'QueueFullError', code: 'QUEUE_FULL' })
    expect(refused.message).toContain('"c"')
    waiting.push(acquire('a'))
    expect(pool.stats().queue).toEqual({ sessions: 2, waiters: 3 })
    live.release()
    await pool.end('live')
    await settled()
    expect(pool.stats().queue).toEqual({ sessions: 1, waiters: 1 })
    for (const lease of [await waiting[0]!, await waiting[2]!]) lease.release()
    await pool.end('a')
    expect(await isSettled(Promise.all(waiting))).toBe(true)
  })

  test('whoever would have to wait with a queue limit of 0, but not who takes an idle worker', async () => {
    const { acquire } = await openPool({ size: { min: 1, max: 2 }, queue: { limit: 0 } })
    await acquire('a')
    expect(await rejection(acquire('b'))).toMatchObject({ code: 'QUEUE_FULL' })
    await acquire('a')
  })

  test('a waiter after its timeout, and forgets its session', async () => {
    const { acquire, clock, pool, told } = await openPool({ size: { min: 1, max: 1 }, queue: { timeout: 300 } })
    const live = await acquire('live')
    const waiting = acquire('a')
    const patient = acquire('b', { timeout: 1_000 })
    await clock.advance(299)
    expect(await isSettled(waiting)).toBe(false)
    await clock.advance(1)
    const error = await rejection(waiting)
    expect(error).toMatchObject({ name: 'AcquireTimeoutError', code: 'ACQUIRE_TIMEOUT' })
    expect(error.message).toContain('"a"')
    expect(error.message).toContain('300 ms')
    expect(pool.stats().queue).toEqual({ sessions: 1, waiters: 1 })
    live.release()
    await pool.end('live')
    await patient
    expect(told('session.started').map(({ sessionId }) => sessionId)).toEqual(['live', 'b'])
  })

  test('with timeout 0 everybody who would have to wait, at once', async () => {
    const { acquire, clock, pool } = await openPool({ size: { min: 1, max: 1 } })
    await acquire('a', { timeout: 0 })
    const timers = clock.pending
    expect(await rejection(acquire('b', { timeout: 0 }))).toMatchObject({ code: 'ACQUIRE_TIMEOUT' })
    expect(clock.pending).toBe(timers)
    expect(pool.stats().queue).toEqual({ sessions: 0, waiters: 0 })
  })

  test('with timeout 0 nobody on a live session', async () => {
    const { acquire } = await openPool({ size: { min: 1, max: 1 } })
    const first = await acquire('a', { timeout: 0 })
    const second = await acquire('a', { timeout: 0 })
    expect(second.session).toBe(first.session)
  })

  test('with timeout 0 nobody for whom a worker is free, even when a listener asks', async () => {
    const { acquire, pool } = await openPool({ size: { min: 2, max: 2 } })
    const asked: Promise<unknown>[] = []
    pool.on('session.started', ({ sessionId }) => {
      if (sessionId === 'a') asked.push(acquire('b', { timeout: 0 }))
    })
    await acquire('a')
    expect(await Promise.all(asked)).toHaveLength(1)
  })

  test.each<[string, unknown]>([
    ['an empty id', ''],
    ['no id', undefined],
    ['null', null],
    ['a number', 7],
    ['a bigint', 10n],
    ['a symbol', Symbol('s')],
    ['an object', {}],
    ['an array', ['a']],
  ])('%s', async (_, id) => {
    const { acquire, pool } = await openPool()
    const error = await rejection(acquire(id as string))
    expect(error).toMatchObject({ code: 'INVALID_OPTION', option: 'id' })
    expect(pool.stats().queue).toEqual({ sessions: 0, waiters: 0 })
  })

  test.each<[string, Record<string, unknown>, string]>([
    ['a negative timeout', { timeout: -1 }, 'timeout'],
    ['an infinite timeout', { timeout: Number.POSITIVE_INFINITY }, 'timeout'],
    ['a timeout that is no number', { timeout: '1s' }, 'timeout'],
    ['a timeout beyond what timers keep', { timeout: 2 ** 31 }, 'timeout'],
    ['a signal that is none', { signal: {} }, 'signal'],
  ])('%s', async (_, options, option) => {
    const { acquire } = await openPool({ size: { min: 0 } })
    const error = await rejection(acquire('a', options))
    expect(error).toMatchObject({ code: 'INVALID_OPTION', option })
  })
})

describe('an acquire that is aborted', () => {
  const reason = new Error('the client left')

  test('before it begins is refused, on a live session too', async () => {
    const { acquire, pool, backend } = await openPool(empty)
    const signal = AbortSignal.abort(reason)
    expect(await rejection(acquire('a', { signal }))).toBe(reason)
    expect(backend.calls).toBe(0)
    await acquire('b')
    expect(await rejection(acquire('b', { signal }))).toBe(reason)
    expect(pool.stats()).toMatchObject({ leases: 1, queue: { sessions: 0, waiters: 0 } })
  })

  test('while it waits leaves at once, and the others stay', async () => {
    const { acquire, pool, clock } = await openPool({ size: { min: 1, max: 1 }, session: { idleTtl: false } })
    const live = await acquire('live')
    const timers = clock.pending
    const controller = new AbortController()
    const leaving = acquire('a', { signal: controller.signal })
    const staying = acquire('a')
    controller.abort(reason)
    expect(await rejection(leaving)).toBe(reason)
    expect(pool.stats().queue).toEqual({ sessions: 1, waiters: 1 })
    live.release()
    await pool.end('live')
    expect((await staying).session.id).toBe('a')
    expect(clock.pending).toBe(timers)
  })

  test('as the last of its session takes the session out of the queue', async () => {
    const { acquire, pool, told } = await openPool({ size: { min: 1, max: 1 } })
    const live = await acquire('live')
    const controller = new AbortController()
    const leaving = [1, 2].map(() => acquire('a', { signal: controller.signal }))
    const next = acquire('b')
    controller.abort(reason)
    for (const waiter of leaving) expect(await rejection(waiter)).toBe(reason)
    expect(pool.stats().queue).toEqual({ sessions: 1, waiters: 1 })
    live.release()
    await pool.end('live')
    await next
    expect(told('session.started').map(({ sessionId }) => sessionId)).toEqual(['live', 'b'])
  })

  test('leaves the worker that was started for it to the next one', async () => {
    const backend = new FakeBackend({ ready: false })
    const { acquire, pool } = await openPool(empty, backend)
    const controller = new AbortController()
    const leaving = acquire('a', { signal: controller.signal })
    await settled()
    controller.abort(reason)
    expect(await rejection(leaving)).toBe(reason)
    backend.worker('w1').becomeReady()
    await settled()
    expect(pool.stats()).toMatchObject({ workers: { healthy: 1, total: 1 }, queue: { sessions: 0 } })
    expect((await acquire('b')).worker.id).toBe('w1')
    expect(backend.calls).toBe(1)
  })

  test('after the grant keeps its lease', async () => {
    const { acquire, pool } = await openPool(empty)
    const controller = new AbortController()
    const lease = await acquire('a', { signal: controller.signal })
    controller.abort(reason)
    await settled()
    expect(lease.signal.aborted).toBe(false)
    expect(pool.stats()).toMatchObject({ leases: 1, sessions: { active: 1 } })
  })

  test('by a listener, in the middle of the call, is aborted all the same', async () => {
    const { acquire, pool } = await openPool(empty)
    const controller = new AbortController()
    pool.on('worker.spawning', () => controller.abort(reason))
    expect(await rejection(acquire('a', { signal: controller.signal }))).toBe(reason)
    expect(pool.stats().queue).toEqual({ sessions: 0, waiters: 0 })
  })

  test('while the grant is on its way gives the worker back', async () => {
    const { acquire, pool, told } = await openPool({ size: { min: 2, max: 2 }, session: { reuse: 'dirty' } })
    const controller = new AbortController()
    // A listener runs while the pool still deals with an event: what it asks for is done after that.
    let waiting: Promise<unknown> | undefined
    pool.on('session.started', ({ sessionId }) => {
      if (sessionId !== 'a') return
      waiting = acquire('b', { signal: controller.signal })
      queueMicrotask(() => controller.abort(reason))
    })
    pool.on('session.started', ({ sessionId }) => {
      if (sessionId === 'a') controller.abort(reason)
    })
    await acquire('a')
    expect(await rejection(waiting!)).toBe(reason)
    expect(pool.stats()).toMatchObject({ sessions: { active: 1, idle: 0 }, workers: { healthy: 1, leased: 1 } })
    const started = told('session.started').filter(({ sessionId }) => sessionId === 'b').length
    expect(told('session.ended').filter(({ sessionId }) => sessionId === 'b')).toHaveLength(started)
    await acquire('b')
  })

  test('settles once, whatever comes together: grant, timeout, abort', async () => {
    const { acquire, clock, pool } = await openPool({ size: { min: 1, max: 1 } })
    const live = await acquire('live')
    const controller = new AbortController()
    const outcomes: string[] = []
    const all = [
      acquire('a', { timeout: 100 }),
      acquire('a', { timeout: 200, signal: controller.signal }),
      acquire('a', { timeout: 300 }),
    ].map((waiter, i) =>
      waiter.then(
        () => outcomes.push(`${i} granted`),
        (error: Error) => outcomes.push(`${i} ${error === reason ? 'aborted' : error.name}`),
      ),
    )
    await clock.advance(100)
    controller.abort(reason)
    live.release()
    await pool.end('live')
    await clock.advance(500)
    await Promise.all(all)
    expect(outcomes).toEqual(['0 AcquireTimeoutError', '1 aborted', '2 granted'])
    expect(pool.stats()).toMatchObject({ leases: 1, queue: { sessions: 0, waiters: 0 } })
  })
})

test('an id from a stranger is quoted in errors: no control character reaches a log', async () => {
  const { acquire } = await openPool({ size: { min: 0 }, queue: { limit: 0 } })
  const { message } = await rejection(acquire('evil\n\u001B[31mid'))
  expect(message).toContain(String.raw`"evil\n\u001b[31mid"`)
})
