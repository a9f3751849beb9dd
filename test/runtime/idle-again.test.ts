import { expect, test } from 'vitest'
import { openPool } from '../support/scene.ts'

test.each([
  ['idle TTL', { idleTtl: 1_000 }],
  ['age limit', { idleTtl: false, maxAge: 1_000 }],
] as const)('a session that was idle does not end for its %s while a connection is open again', async (_, session) => {
  const { acquire, clock, pool, told } = await openPool({ session })
  const first = await acquire('a')
  first.release()
  await clock.advance(500)
  const second = await acquire('a')
  await clock.advance(100_000)
  expect(told('session.ended')).toEqual([])
  expect(pool.stats().sessions).toEqual({ active: 1, idle: 0, closing: 0 })
  expect(second.signal.aborted).toBe(false)
})
