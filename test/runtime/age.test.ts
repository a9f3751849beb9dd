import { describe, expect, test } from 'vitest'
import { openPool } from '../support/scene.ts'

test.each([{ maxAge: 5_000 }, { maxLifetime: 5_000 }])(
  '%o ends a session that is idle when it reaches it',
  async (limit) => {
    const { acquire, clock, told } = await openPool({ session: { ...limit, idleTtl: false } })
    const lease = await acquire('a')
    lease.release()
    await clock.advance(4_999)
    expect(told('session.ended')).toEqual([])
    await clock.advance(1)
    expect(told('session.ended')).toMatchObject([{ reason: 'max-age' }])
  },
)

describe('the age limit', () => {
  test('does not end a session before its last connection closes', async () => {
    const { acquire, clock, told } = await openPool({ session: { maxAge: 5_000 } })
    const lease = await acquire('a')
    await clock.advance(60_000)
    expect(told('session.ended')).toEqual([])
    lease.release()
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

describe('the limit of a lifetime', () => {
  test('ends a session with open connections, which get the grace', async () => {
    const { acquire, clock, pool, told } = await openPool({ session: { maxLifetime: 5_000, grace: 300 } })
    const lease = await acquire('a')
    await clock.advance(4_999)
    expect(pool.sessions()).toMatchObject([{ state: 'active' }])
    await clock.advance(1)
    expect(pool.sessions()).toMatchObject([{ state: 'closing' }])
    await clock.advance(300)
    expect(lease.signal.aborted).toBe(true)
    expect(told('session.ended')).toMatchObject([{ reason: 'max-age' }])
  })

  test('ends each at its own age, whatever others did before', async () => {
    const { acquire, clock, pool } = await openPool({ size: { min: 3 }, session: { maxLifetime: 1_000, grace: 0 } })
    const ended: [string, number][] = []
    pool.on('session.ended', ({ sessionId }) => ended.push([sessionId, clock.now()]))
    const begin = clock.now()
    for (const id of ['a', 'b', 'c']) {
      await acquire(id)
      await clock.advance(100)
    }
    await pool.end('a')
    await clock.advance(2_000)
    expect(ended).toEqual([
      ['a', begin + 300],
      ['b', begin + 1_100],
      ['c', begin + 1_200],
    ])
  })

  test('lets a session whose connections have closed at the same moment end once', async () => {
    const { acquire, clock, told } = await openPool({ session: { maxLifetime: 1_000, maxAge: 1_000, idleTtl: 1_000 } })
    const lease = await acquire('a')
    lease.release()
    await clock.advance(2_000)
    expect(told('session.ended')).toHaveLength(1)
  })
})
