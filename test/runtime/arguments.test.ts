import { createPool, type PoolEvent } from 'corral'
import { describe, expect, test } from 'vitest'
import { FakeBackend } from '../support/fake-backend.ts'
import { openPool, rejection } from '../support/scene.ts'
import { settled, VirtualClock } from '../support/virtual-clock.ts'

describe('arguments', () => {
  test.each([
    [null, 'Invalid option "options": expected an object, got null'],
    [5, 'Invalid option "options": expected an object, got 5'],
    [{ timeuot: 5 }, 'Invalid option "timeuot": expected one of the known options (did you mean "timeout"?), got an'],
    [{ timeout: '5' }, 'Invalid option "timeout": expected a duration in milliseconds'],
  ])('of acquire: %j is refused', async (options, message) => {
    const { pool } = await openPool()
    const error = await rejection(pool.acquire('a', options as never))
    expect(error).toMatchObject({ code: 'INVALID_OPTION' })
    expect(error.message).toContain(message)
    expect(pool.stats().queue).toEqual({ sessions: 0, waiters: 0 })
  })

  test.each([
    [null, 'Invalid option "options": expected an object, got null'],
    [{ dealine: 5 }, 'Invalid option "dealine": expected one of the known options (did you mean "deadline"?), got an'],
  ])('of drain: %j is refused, and the pool goes on', async (options, message) => {
    const { pool } = await openPool()
    expect((await rejection(pool.drain(options as never))).message).toContain(message)
    expect(pool.stats().state).toBe('running')
  })
})

describe('arguments', () => {
  test.each([
    [
      'session.start',
      () => {},
      'Invalid option "type": expected the type of an event, or "*" for all, got "session.start"',
    ],
    ['*', undefined, 'Invalid option "listener": expected a function'],
    ['session.ended', 5, 'Invalid option "listener": expected a function, got 5'],
  ])('of on: %j and %s are refused', async (type, listener, message) => {
    const { pool } = await openPool()
    expect(() => pool.on(type as never, listener as never)).toThrow(message)
  })

  test('of end and drainWorker: what is no id is refused', async () => {
    const { pool } = await openPool()
    expect((await rejection(pool.end(5 as never))).message).toContain(
      'Invalid option "id": expected an id: text, got 5',
    )
    expect(await rejection(pool.drainWorker(undefined as never))).toMatchObject({ code: 'INVALID_OPTION' })
    expect(await pool.end('')).toBe(false)
  })
})

describe('tryAcquire', () => {
  test('opens a connection on a live session at once', async () => {
    const { pool, acquire } = await openPool()
    const first = await acquire('a')
    const second = pool.tryAcquire('a')
    expect(second?.session).toBe(first.session)
    expect(pool.stats().leases).toBe(2)
    first.release()
    second?.release()
    const third = pool.tryAcquire('a')
    expect(pool.stats().sessions).toMatchObject({ active: 1, idle: 0 })
    third?.release()
  })

  test('has nothing for an id without a session, one that waits, or one that is about to end', async () => {
    const { pool, acquire } = await openPool({ size: { min: 1, max: 1 } })
    expect(pool.tryAcquire('a')).toBeUndefined()
    const lease = await acquire('a')
    void acquire('b')
    expect(pool.tryAcquire('b')).toBeUndefined()
    void pool.end('a')
    expect(pool.tryAcquire('a')).toBeUndefined()
    expect(pool.stats()).toMatchObject({ leases: 1, queue: { waiters: 1 } })
    lease.release()
  })
})

test('onEvent hears of the first workers, before the pool runs', async () => {
  const events: PoolEvent[] = []
  const backend = new FakeBackend()
  const clock = new VirtualClock()
  const pool = await createPool({ worker: backend, clock, size: { min: 1 }, onEvent: (event) => events.push(event) })
  expect(events.map(({ type }) => type)).toEqual(['worker.spawning', 'worker.ready'])
  await pool.close()
  await settled()
  expect(events.at(-1)?.type).toBe('pool.stopped')
})
