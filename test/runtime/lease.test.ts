import type { CorralError } from 'corral'
import { describe, expect, test } from 'vitest'
import { openPool } from '../support/scene.ts'
import { settled } from '../support/virtual-clock.ts'

describe('a lease', () => {
  test('that is released twice closes one connection', async () => {
    const { acquire, pool } = await openPool()
    const first = await acquire('a')
    const second = await acquire('a')
    first.release()
    first.release()
    first[Symbol.dispose]()
    expect(pool.stats()).toMatchObject({ leases: 1, sessions: { active: 1, idle: 0 } })
    second.release()
    expect(pool.stats()).toMatchObject({ leases: 0, sessions: { active: 0, idle: 1 } })
  })

  test('is released by disposing of it', async () => {
    const { acquire, pool } = await openPool()
    const lease = await acquire('a')
    lease[Symbol.dispose]()
    expect(pool.stats()).toMatchObject({ leases: 0, sessions: { active: 0, idle: 1 } })
  })

  test('of an ended session neither releases nor observes the next session of its id', async () => {
    const { acquire, pool, clock } = await openPool({ session: { idleTtl: 1_000, grace: 0 } })
    const old = await acquire('a')
    await pool.end('a')
    const next = await acquire('a')
    expect(next.session).not.toBe(old.session)
    expect(next.session.token).toBeGreaterThan(old.session.token)
    expect(next.worker.id).not.toBe(old.worker.id)
    old.release()
    old.release()
    expect(pool.stats()).toMatchObject({ leases: 1, sessions: { active: 1, idle: 0 } })
    await clock.advance(10_000)
    expect(next.signal.aborted).toBe(false)
    expect(old.signal.aborted).toBe(true)
    next.release()
    await clock.advance(1_000)
    expect(next.signal.aborted).toBe(true)
  })

  test('of an ended session does not keep the next one of its id alive', async () => {
    const { acquire, pool, clock, told } = await openPool({ session: { idleTtl: 1_000, grace: 0 } })
    const old = await acquire('a')
    await pool.end('a')
    const next = await acquire('a')
    next.release()
    await clock.advance(1_000)
    expect(told('session.ended').map(({ reason }) => reason)).toEqual(['released', 'expired'])
    old.release()
    expect(pool.stats()).toMatchObject({ leases: 0, sessions: { active: 0, idle: 0, closing: 0 } })
  })

  test('of an ended session keeps telling where it was', async () => {
    const { acquire, pool } = await openPool({ session: { grace: 0 } })
    const { worker, session } = await acquire('a')
    await pool.end('a')
    expect(worker.id).toBe('w1')
    expect(session).toMatchObject({ id: 'a', token: 1 })
  })
})

describe("a lease's signal", () => {
  test('is one for all leases of the session', async () => {
    const { acquire } = await openPool()
    const first = await acquire('a')
    const second = await acquire('a')
    expect(second.signal).toBe(first.signal)
    expect(first.session.signal).toBe(first.signal)
    expect(first.signal.aborted).toBe(false)
  })

  test('does not abort when the lease is released', async () => {
    const { acquire } = await openPool()
    const lease = await acquire('a')
    const { signal } = lease
    lease.release()
    await settled()
    expect(signal.aborted).toBe(false)
  })

  test('aborts with SESSION_ENDED when the session is ended', async () => {
    const { acquire, pool } = await openPool({ session: { grace: 0 } })
    const { signal } = await acquire('a')
    await pool.end('a')
    expect(signal.aborted).toBe(true)
    const reason = signal.reason as CorralError
    expect(reason).toMatchObject({ name: 'SessionEndedError', code: 'SESSION_ENDED', sessionId: 'a' })
    expect(reason.message).toContain('released')
  })

  test('aborts with SESSION_LOST and the cause when the worker dies', async () => {
    const { acquire, backend } = await openPool()
    const { signal, worker } = await acquire('a')
    const fake = backend.worker(worker.id)
    fake.lines = ['out of memory']
    fake.exit({ exitCode: 137 })
    await settled()
    expect(signal.reason).toMatchObject({
      name: 'SessionLostError',
      code: 'SESSION_LOST',
      sessionId: 'a',
      reason: 'crashed',
      exitCode: 137,
      signal: null,
      output: ['out of memory'],
    })
    expect((signal.reason as Error).message).toContain('out of memory')
  })

  test.each(['ended', 'lost'])('that is first asked for after the session was %s has aborted already', async (how) => {
    const { acquire, pool, backend } = await openPool({ session: { grace: 0 } })
    const lease = await acquire('a')
    if (how === 'ended') await pool.end('a')
    else backend.worker('w1').exit()
    await settled()
    expect(lease.signal.aborted).toBe(true)
    expect(lease.signal.reason).toMatchObject({ code: how === 'ended' ? 'SESSION_ENDED' : 'SESSION_LOST' })
  })

  test('takes many listeners without a warning', async () => {
    const { acquire } = await openPool()
    const warnings: Error[] = []
    const onWarning = (warning: Error) => void warnings.push(warning)
    process.on('warning', onWarning)
    const { signal } = await acquire('a')
    for (let i = 0; i < 100; i++) signal.addEventListener('abort', () => {})
    await settled()
    process.off('warning', onWarning)
    expect(warnings).toEqual([])
  })
})
