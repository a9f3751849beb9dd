/** A pool on workers without processes: what its own work costs. */
import type { Lease, Pool, PoolOptions } from 'corral'
import { createPool } from 'corral'
import { MemoryBackend } from '../backend.ts'
import { serve } from '../child.ts'
import { costOf, type Cost } from '../cost.ts'
import { memory, type Memory } from '../memory.ts'

export const answers = {
  /** `acquire` and `release` on a session that another connection keeps active. */
  acquireLive: (count: number) =>
    withSession((pool) =>
      costOf(count, async () => {
        for (let i = 0; i < count; i++) (await pool.acquire(id)).release()
      }),
    ),
  /** The same without a promise. */
  tryAcquireLive: (count: number) => withSession((pool) => costOf(count, () => toggle(pool, id, count))),
  /** From no connection to one and back. */
  toggle: (count: number) =>
    withSession((pool, lease) => {
      lease.release()
      return costOf(count, () => toggle(pool, id, count))
    }),
  /** A waiting session: put into the queue, taken out of it by its signal, granted a worker. */
  queue: (count: number) =>
    usePool({ size: { min: 1, max: 1 }, queue: { limit: count } }, (pool) => queue(pool, count)),
  /** A pool of that many workers, from its start to its end. */
  scale: ({ workers, count }: { workers: number; count: number }) => scale(workers, count),
  idleSessions: (count: number) => idleSessions(count),
}

if (process.send) serve(answers)

const id = 'one'

async function queue(pool: Pool, count: number) {
  const holder = await pool.acquire(id)
  const controllers = Array.from({ length: count }, () => new AbortController())
  let waiting: Promise<unknown>[] = []
  const enqueue = await costOf(count, () => {
    waiting = controllers.map(({ signal }, i) => pool.acquire(`a${i}`, { signal }).catch(() => {}))
  })
  // One for all: what Node takes to make one is not the pool's.
  const reason = new Error('The client has left')
  const abort = await costOf(count, async () => {
    for (const controller of controllers) controller.abort(reason)
    await Promise.all(waiting)
  })
  const granted: string[] = []
  waiting = controllers.map(async (_, i) => {
    const lease = await pool.acquire(`b${i}`)
    granted.push(lease.session.id)
    lease.release()
  })
  const grant = await costOf(count, async () => {
    holder.release()
    await Promise.all(waiting)
  })
  if (granted.some((session, i) => session !== `b${i}`)) throw new Error('Sessions were not served in their order')
  const lease = await costOf(count, () => leaseAgain(pool, count))
  return { enqueue, abort, grant, lease }
}

async function scale(workers: number, count: number) {
  let pool!: Pool
  const options = { size: { min: workers, max: workers }, session: { idleTtl: 0, reuse: 'dirty' } } as const
  const start = await costOf(workers, async () => {
    pool = await createPool({ worker: new MemoryBackend(), ...options })
  })
  const lease = await costOf(count, () => leaseAgain(pool, count))
  const held = await pool.acquire(id)
  const live = await costOf(count, () => toggle(pool, id, count))
  held.release()
  const stats = await costOf(count, () => {
    for (let i = 0; i < count; i++) pool.stats()
  })
  await expectWorkers(pool, workers)
  const close = await costOf(workers, () => pool.close())
  return { start, lease, live, stats, close }
}

/** Memory of each of `count` sessions without a connection, its worker's actors included. */
async function idleSessions(count: number): Promise<Memory> {
  const options = { size: { min: 0, max: count }, session: { idleTtl: false } } as const
  return usePool(options, async (pool) => {
    const before = await memory()
    await leaseAgain(pool, count)
    const after = await memory()
    if (pool.stats().sessions.idle !== count) throw new Error(`${pool.stats().sessions.idle} sessions are idle`)
    return { heap: (after.heap - before.heap) / count, resident: (after.resident - before.resident) / count }
  })
}

/** One session after the other. */
async function leaseAgain(pool: Pool, count: number): Promise<void> {
  for (let i = 0; i < count; i++) (await pool.acquire(`s${i}`)).release()
}

function toggle(pool: Pool, id: string, count: number): void {
  for (let i = 0; i < count; i++) {
    const lease = pool.tryAcquire(id)
    if (lease === undefined) throw new Error('The session is gone')
    lease.release()
  }
}

function withSession(use: (pool: Pool, lease: Lease) => Promise<Cost>): Promise<Cost> {
  return usePool({ session: { idleTtl: false } }, async (pool) => use(pool, await pool.acquire(id)))
}

async function usePool<T>(options: Omit<PoolOptions, 'worker'>, use: (pool: Pool) => Promise<T>): Promise<T> {
  const session = { idleTtl: 0, reuse: 'dirty', ...options.session } as const
  await using pool = await createPool({ ...options, worker: new MemoryBackend(), session })
  return await use(pool)
}

async function expectWorkers(pool: Pool, count: number): Promise<void> {
  const { total, healthy } = pool.stats().workers
  if (total !== count || healthy !== count) throw new Error(`${healthy} of ${total} workers are healthy, not ${count}`)
}
