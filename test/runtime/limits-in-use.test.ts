import { describe, expect, test } from 'vitest'
import { openPool } from '../support/scene.ts'

describe("with session.idle 'bytes', a session with an open connection", () => {
  const session = { idleTtl: 1_000, idle: 'bytes', grace: 200 } as const

  test('expires when no byte has moved for the idle TTL, and its connection gets the grace', async () => {
    const { acquire, clock, pool, told } = await openPool({ session })
    const lease = await acquire('a')
    await clock.advance(999)
    expect(pool.sessions()).toMatchObject([{ state: 'active' }])
    await clock.advance(1)
    expect(pool.sessions()).toMatchObject([{ state: 'closing' }])
    expect(lease.signal.aborted).toBe(false)
    await clock.advance(200)
    expect(lease.signal.reason).toMatchObject({ code: 'SESSION_ENDED' })
    expect(told('session.ended')).toMatchObject([{ sessionId: 'a', reason: 'expired' }])
  })

  test('lives while bytes move, and ends between the idle TTL and a tenth more after the last', async () => {
    const { acquire, clock, pool } = await openPool({ session })
    const lease = await acquire('a')
    for (let i = 0; i < 10; i++) {
      await clock.advance(730)
      lease.touch()
    }
    await clock.advance(999)
    expect(pool.sessions()).toMatchObject([{ state: 'active' }])
    await clock.advance(101)
    expect(pool.sessions()).toMatchObject([{ state: 'closing' }])
  })

  test('is looked at ten times in its idle TTL, each time for all that has moved since', async () => {
    const { acquire, clock, pool } = await openPool({ session: { ...session, idleTtl: 10_000 } })
    const lease = await acquire('a')
    await clock.advance(500)
    lease.touch()
    await clock.advance(10_499)
    expect(pool.sessions()).toMatchObject([{ state: 'active' }])
    await clock.advance(1)
    expect(pool.sessions()).toMatchObject([{ state: 'closing' }])
  })

  test('lives on when one more connection opens in time', async () => {
    const { acquire, clock, pool } = await openPool({ session })
    await acquire('a')
    await clock.advance(950)
    await acquire('a')
    await clock.advance(950)
    expect(pool.sessions()).toMatchObject([{ state: 'active', leases: 2 }])
    await clock.advance(200)
    expect(pool.sessions()).toMatchObject([{ state: 'closing' }])
  })

  test('lives on when a byte moves and a connection opens between two looks: the one does not make up for the other', async () => {
    const { acquire, clock, pool } = await openPool({ session })
    const lease = await acquire('a')
    await clock.advance(950)
    lease.touch()
    await acquire('a')
    await clock.advance(950)
    expect(pool.sessions()).toMatchObject([{ state: 'active', leases: 2 }])
  })

  test('is idle from its last connection on, as ever', async () => {
    const { acquire, clock, told } = await openPool({ session })
    const lease = await acquire('a')
    await clock.advance(900)
    lease.release()
    await clock.advance(999)
    expect(told('session.ended')).toEqual([])
    await clock.advance(1)
    expect(told('session.ended')).toMatchObject([{ reason: 'expired' }])
  })

  test('that closes already does not get its grace twice', async () => {
    const { acquire, clock, pool, told } = await openPool({ session: { ...session, grace: 5_000 } })
    await acquire('a')
    void pool.end('a')
    await clock.advance(4_999)
    expect(told('session.ended')).toEqual([])
    await clock.advance(1)
    expect(told('session.ended')).toMatchObject([{ reason: 'released' }])
  })

  test('shares its timer with all others, however many open and close', async () => {
    const { acquire, clock } = await openPool({ size: { min: 5 }, session })
    const timers = clock.pending
    for (let i = 0; i < 5; i++) {
      const lease = await acquire(`s${i}`)
      lease.release()
      await acquire(`s${i}`)
      await clock.advance(10)
    }
    expect(clock.pending).toBe(timers + 1)
  })

  test('never expires with an idle TTL of false, and 0 is refused', async () => {
    const { acquire, clock, told } = await openPool({ session: { ...session, idleTtl: false } })
    await acquire('a')
    await clock.advance(1_000_000)
    expect(told('session.ended')).toEqual([])
    await expect(openPool({ session: { ...session, idleTtl: 0 } })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      option: 'session.idleTtl',
    })
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

  test('ends an idle session too', async () => {
    const { acquire, clock, told } = await openPool({ session: { maxLifetime: 5_000, idleTtl: false } })
    const lease = await acquire('a')
    lease.release()
    await clock.advance(4_999)
    expect(told('session.ended')).toEqual([])
    await clock.advance(1)
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
