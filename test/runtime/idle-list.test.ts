import { expect, test } from 'vitest'
import { openPool } from '../support/scene.ts'

test('a session that opens a connection again leaves the others idle, each ending at its time', async () => {
  const { acquire, clock, pool } = await openPool({ size: { min: 3 }, session: { idleTtl: 1_000 } })
  const ended: [string, number][] = []
  pool.on('session.ended', ({ sessionId }) => ended.push([sessionId, clock.now()]))
  const leases = [await acquire('a'), await acquire('b'), await acquire('c')]
  const begin = clock.now()
  for (const lease of leases) lease.release()
  await clock.advance(500)
  // Neither the first that became idle nor the last.
  const again = await acquire('b')
  expect(pool.stats().sessions).toEqual({ active: 1, idle: 2, closing: 0 })
  await clock.advance(1_500)
  again.release()
  expect(pool.stats().sessions).toEqual({ active: 0, idle: 1, closing: 0 })
  await clock.advance(1_000)
  expect(ended).toEqual([
    ['a', begin + 1_000],
    ['c', begin + 1_000],
    ['b', begin + 3_000],
  ])
})

test('a session that is lost while others are idle leaves them so', async () => {
  const { acquire, backend, clock, pool, told } = await openPool({ size: { min: 3 }, session: { idleTtl: 1_000 } })
  const leases = [await acquire('a'), await acquire('b'), await acquire('c')]
  for (const lease of leases) lease.release()
  backend.worker(leases[1]?.worker.id ?? '').exit()
  await clock.advance(0)
  expect(pool.stats().sessions).toEqual({ active: 0, idle: 2, closing: 0 })
  await clock.advance(1_000)
  expect(told('session.ended').map(({ sessionId, reason }) => [sessionId, reason])).toEqual([
    ['b', 'lost'],
    ['a', 'expired'],
    ['c', 'expired'],
  ])
})

test('a closing session that ends with its last connection is not counted as idle', async () => {
  const { acquire, pool } = await openPool()
  const lease = await acquire('a')
  const ended = pool.end('a')
  expect(pool.stats().sessions).toEqual({ active: 0, idle: 0, closing: 1 })
  lease.release()
  await ended
  expect(pool.stats().sessions).toEqual({ active: 0, idle: 0, closing: 0 })
})

test('sessions that became idle shortly after each other end each at its own time', async () => {
  const { acquire, clock, pool } = await openPool({ size: { min: 2 }, session: { idleTtl: 1_000 } })
  const ended: number[] = []
  pool.on('session.ended', () => ended.push(clock.now()))
  const leases = [await acquire('a'), await acquire('b')]
  const begin = clock.now()
  leases[0]?.release()
  await clock.advance(10)
  leases[1]?.release()
  await clock.advance(1_000)
  expect(ended).toEqual([begin + 1_000, begin + 1_010])
})

test('an old session reaches its age limit though a younger one became idle before it', async () => {
  const { acquire, clock, told } = await openPool({ size: { min: 2 }, session: { maxAge: 5_000, idleTtl: false } })
  const old = await acquire('old')
  await clock.advance(2_000)
  const young = await acquire('young')
  young.release()
  old.release()
  await clock.advance(3_000)
  expect(told('session.ended').map(({ sessionId }) => sessionId)).toEqual(['old'])
  await clock.advance(2_000)
  expect(told('session.ended').map(({ sessionId }) => sessionId)).toEqual(['old', 'young'])
})

test('with an age limit idle sessions are looked at no more often than every 100 ms', async () => {
  const { acquire, clock, pool } = await openPool({
    size: { min: 20, max: 20 },
    session: { maxAge: 1_000, idleTtl: false },
  })
  const ended: number[] = []
  pool.on('session.ended', () => ended.push(clock.now()))
  for (let i = 0; i < 20; i++) {
    const lease = await acquire(`s${i}`)
    lease.release()
    await clock.advance(5)
  }
  await clock.advance(1_000)
  expect(ended).toHaveLength(20)
  expect(new Set(ended).size).toBe(2)
})
