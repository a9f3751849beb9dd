import { describe, expect, test } from 'vitest'
import { FakeBackend } from '../support/fake-backend.ts'
import { openPool } from '../support/scene.ts'

describe('a session without open connections', () => {
  test('ends after the idle TTL', async () => {
    const { acquire, clock, told } = await openPool({ session: { idleTtl: 1_000 } })
    const lease = await acquire('a')
    lease.release()
    await clock.advance(999)
    expect(told('session.ended')).toEqual([])
    await clock.advance(1)
    expect(told('session.ended')).toMatchObject([{ sessionId: 'a', reason: 'expired' }])
  })

  test('lives on when a connection opens in time, and its idle time begins anew', async () => {
    const { acquire, clock, told } = await openPool({ session: { idleTtl: 1_000 } })
    const first = await acquire('a')
    first.release()
    await clock.advance(900)
    const second = await acquire('a')
    expect(second.session).toBe(first.session)
    second.release()
    await clock.advance(999)
    expect(told('session.ended')).toEqual([])
    await clock.advance(1)
    expect(told('session.ended')).toHaveLength(1)
  })

  test('ends with its last connection when the idle TTL is 0', async () => {
    const { acquire, clock, told } = await openPool({ session: { idleTtl: 0 } })
    const timers = clock.pending
    const [first, second] = [await acquire('a'), await acquire('a')]
    first.release()
    expect(told('session.ended')).toEqual([])
    second.release()
    expect(told('session.ended')).toMatchObject([{ reason: 'expired' }])
    await clock.advance(0)
    expect(clock.pending).toBeLessThanOrEqual(timers + 1)
  })

  test.each(['connections', 'bytes'] as const)(
    'never ends by itself when the idle TTL is false, and needs no timer: %s',
    async (idle) => {
      const backend = new FakeBackend()
      backend.liveness.interval = 0
      const { acquire, clock, told } = await openPool({ session: { idleTtl: false, idle } }, backend)
      const lease = await acquire('a')
      expect(clock.pending).toBe(0)
      lease.release()
      expect(clock.pending).toBe(0)
      await clock.advance(100 * 60_000)
      expect(told('session.ended')).toEqual([])
    },
  )

  test('expires in the order in which they became idle, each at its time', async () => {
    const { acquire, clock, pool } = await openPool({ size: { min: 3 }, session: { idleTtl: 1_000 } })
    const ended: [string, number][] = []
    pool.on('session.ended', ({ sessionId }) => ended.push([sessionId, clock.now()]))
    const leases = [await acquire('a'), await acquire('b'), await acquire('c')]
    const begin = clock.now()
    leases[0]?.release()
    await clock.advance(100)
    leases[2]?.release()
    await clock.advance(100)
    leases[1]?.release()
    await clock.advance(100)
    // Idle again: now the last of all.
    const again = await acquire('a')
    again.release()
    await clock.advance(2_000)
    expect(ended).toEqual([
      ['c', begin + 1_100],
      ['b', begin + 1_200],
      ['a', begin + 1_300],
    ])
  })
})

describe('a session with an open connection', () => {
  test('never expires, however long nothing moves on it', async () => {
    const { acquire, clock, told } = await openPool({ session: { idleTtl: 1_000 } })
    const [first, second] = [await acquire('a'), await acquire('a')]
    first.release()
    await clock.advance(100_000)
    expect(told('session.ended')).toEqual([])
    second.release()
    await clock.advance(1_000)
    expect(told('session.ended')).toHaveLength(1)
  })

  test('does not end for its age before the last connection closes', async () => {
    const { acquire, clock, told } = await openPool({ session: { maxAge: 5_000 } })
    const lease = await acquire('a')
    await clock.advance(60_000)
    expect(told('session.ended')).toEqual([])
    lease.release()
    expect(told('session.ended')).toMatchObject([{ reason: 'max-age' }])
  })
})

describe('the age limit', () => {
  test('ends a session that is idle when it reaches it', async () => {
    const { acquire, clock, told } = await openPool({ session: { maxAge: 5_000, idleTtl: false } })
    const lease = await acquire('a')
    lease.release()
    await clock.advance(4_999)
    expect(told('session.ended')).toEqual([])
    await clock.advance(1)
    expect(told('session.ended')).toMatchObject([{ reason: 'max-age' }])
  })

  test('counts from the start of the session and not from its last use', async () => {
    const { acquire, clock, told } = await openPool({ session: { maxAge: 5_000, idleTtl: 3_000 } })
    const first = await acquire('a')
    first.release()
    await clock.advance(2_500)
    const second = await acquire('a')
    second.release()
    await clock.advance(2_499)
    expect(told('session.ended')).toEqual([])
    await clock.advance(1)
    expect(told('session.ended')).toMatchObject([{ reason: 'max-age' }])
  })

  test('of several sessions ends each within 100 ms of its time, and none before', async () => {
    const { acquire, clock, pool } = await openPool({
      size: { min: 5 },
      session: { maxAge: 1_000, idleTtl: 10_000 },
    })
    const started = new Map<string, number>()
    const ages = new Map<string, number>()
    pool.on('session.started', ({ sessionId }) => started.set(sessionId, clock.now()))
    pool.on('session.ended', ({ sessionId }) => ages.set(sessionId, clock.now() - (started.get(sessionId) ?? 0)))
    const leases = []
    for (const id of ['a', 'b', 'c', 'd']) {
      leases.push(await acquire(id))
      await clock.advance(30)
    }
    // They become idle in another order than they started in.
    for (const lease of leases.toReversed()) lease.release()
    await clock.advance(3_000)
    expect(ages.size).toBe(4)
    for (const age of ages.values()) {
      expect(age).toBeGreaterThanOrEqual(1_000)
      expect(age).toBeLessThanOrEqual(1_100)
    }
  })

  test('of 0 ends a session with its last connection', async () => {
    const { acquire, told } = await openPool({ session: { maxAge: 0 } })
    const lease = await acquire('a')
    expect(told('session.ended')).toEqual([])
    lease.release()
    expect(told('session.ended')).toMatchObject([{ reason: 'max-age' }])
  })
})

test('one timer serves all idle sessions', async () => {
  const { acquire, clock } = await openPool({ size: { min: 10, max: 10 }, session: { idleTtl: 1_000 } })
  const timers = clock.pending
  const leases = await Promise.all(Array.from({ length: 10 }, (_, i) => acquire(`s${i}`)))
  for (const lease of leases) lease.release()
  expect(clock.pending).toBe(timers + 1)
})

test('a listener that opens a connection on the next session to expire keeps it', async () => {
  const { acquire, clock, pool, told } = await openPool({ size: { min: 2 }, session: { idleTtl: 1_000 } })
  const leases = [await acquire('a'), await acquire('b')]
  const kept: Promise<{ session: unknown }>[] = []
  pool.on('session.ended', ({ sessionId }) => {
    if (sessionId === 'a') kept.push(acquire('b'))
  })
  for (const lease of leases) lease.release()
  await clock.advance(1_000)
  expect((await kept[0])?.session).toBe(leases[1]?.session)
  expect(told('session.ended').map(({ sessionId }) => sessionId)).toEqual(['a'])
  expect(pool.stats().sessions).toEqual({ active: 1, idle: 0, closing: 0 })
})
