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

  test('never ends by itself when the idle TTL is false, and needs no timer', async () => {
    const backend = new FakeBackend()
    backend.liveness.interval = 0
    const { acquire, clock, told } = await openPool({ session: { idleTtl: false } }, backend)
    const lease = await acquire('a')
    expect(clock.pending).toBe(0)
    lease.release()
    expect(clock.pending).toBe(0)
    await clock.advance(100 * 60_000)
    expect(told('session.ended')).toEqual([])
  })

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
})

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

  test('cannot have an idle TTL of 0', async () => {
    await expect(openPool({ session: { ...session, idleTtl: 0 } })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      option: 'session.idleTtl',
    })
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
