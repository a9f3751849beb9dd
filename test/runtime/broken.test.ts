import { createPool } from 'corral'
import { expect, test } from 'vitest'
import { FakeBackend } from '../support/fake-backend.ts'
import { isSettled, rejection, uncaught } from '../support/scene.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

test('a pool whose actors broke kills its processes, lets go of everybody, and surfaces the error', async () => {
  const backend = new FakeBackend({ stops: false, dies: false })
  const clock = new VirtualClock()
  const pool = await createPool({ worker: backend, clock, size: { min: 1, max: 2 } })
  const lease = await pool.acquire('a')
  const { signal } = lease
  const drained = pool.drainWorker(lease.worker.id, { deadline: 5_000 })
  expect(pool.stats().sessions.closing).toBe(1)
  let waiting: Promise<unknown> | undefined
  const errors = await uncaught(() => {
    // A report of a worker that does not exist, which the pool leases next.
    const address = { host: '127.0.0.1', port: 1 }
    pool.actor.send({ type: 'worker.ready', workerId: 'ghost', from: 'spawning', pid: 1, address })
    waiting = pool.acquire('b')
    waiting.catch(() => {})
  })
  expect(errors).toHaveLength(1)
  expect(String(errors[0])).toContain('ghost')
  expect(signal.aborted).toBe(true)
  const sessions = { active: 0, idle: 0, closing: 0 }
  expect(pool.stats()).toMatchObject({ state: 'stopped', sessions, leases: 0, queue: { waiters: 0 } })
  expect(await rejection(waiting!)).toMatchObject({ code: 'POOL_CLOSED', cause: errors[0] })
  expect(await rejection(pool.acquire('c'))).toMatchObject({ code: 'POOL_CLOSED' })
  const closed = pool.close()
  expect(await isSettled(closed), 'closed before the processes are gone').toBe(false)
  for (const worker of backend.alive) {
    expect(worker.kills).toBeGreaterThan(0)
    worker.exit({ signal: 'SIGKILL' })
  }
  expect(await isSettled(closed)).toBe(true)
  expect(await isSettled(drained)).toBe(true)
  const { calls } = backend
  await clock.advance(60_000)
  expect(backend.calls, 'starts after the end').toBe(calls)
  expect(backend.alive).toEqual([])
  expect(clock.pending).toBe(0)
})
