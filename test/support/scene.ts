import {
  createPool,
  type AcquireOptions,
  type Lease,
  type Pool,
  type PoolEvent,
  type PoolEventType,
  type PoolOptions,
  type PoolStats,
} from 'corral'
import { expect, onTestFinished } from 'vitest'
import { FakeBackend } from './fake-backend.ts'
import { settled, VirtualClock } from './virtual-clock.ts'

export type SceneOptions = Omit<PoolOptions, 'worker' | 'clock'>

/** A pool on fake workers and virtual time, and everything it told. */
export interface Scene {
  readonly pool: Pool
  readonly backend: FakeBackend
  readonly clock: VirtualClock
  /** Every event since the pool was started. */
  readonly events: PoolEvent[]
  /** As `pool.acquire`, for promises that a test looks at later: their rejection is not reported as unhandled. */
  readonly acquire: (id: string, options?: AcquireOptions) => Promise<Lease>
  /** The events of one type. */
  readonly told: <T extends PoolEventType>(type: T) => PoolEvent<T>[]
}

/** A pool that is running. At the end of the test it is closed, and nothing of it may be left. */
export async function openPool(options: SceneOptions = {}, backend = new FakeBackend()): Promise<Scene> {
  const clock = new VirtualClock()
  const pool = await createPool({ host: false, ...options, worker: backend, clock })
  const events: PoolEvent[] = []
  const broken: string[] = []
  pool.on('*', (event) => {
    events.push(event)
    broken.push(...wrongCounts(pool.stats()).map((problem) => `${problem} at ${event.type}`))
  })
  const scene: Scene = {
    pool,
    backend,
    clock,
    events,
    acquire: (id, options) => {
      const lease = pool.acquire(id, options)
      lease.catch(() => {})
      return lease
    },
    told: (type) => events.filter((event) => event.type === type) as never,
  }
  onTestFinished(async () => {
    await closeScene(scene)
    expect(broken).toEqual([])
  })
  return scene
}

/** A pool that has yet to start. A test that lets it start has to close it. */
export function startPool(options: SceneOptions = {}, backend = new FakeBackend()) {
  const clock = new VirtualClock()
  const starting = createPool({ host: false, ...options, worker: backend, clock })
  starting.catch(() => {})
  onTestFinished(async () => {
    const pool = await starting.catch(() => undefined)
    if (pool) await finish(pool, backend, clock)
    expectNothingLeft(backend, clock)
  })
  return { starting, backend, clock }
}

export async function closeScene({ pool, backend, clock }: Scene): Promise<void> {
  await settled()
  expectStatsAddUp(pool)
  await finish(pool, backend, clock)
  expectNothingLeft(backend, clock)
  expect(pool.stats()).toMatchObject({
    state: 'stopped',
    workers: { total: 0, spawning: 0, healthy: 0, leased: 0, resetting: 0, draining: 0, restarting: 0 },
    sessions: { active: 0, idle: 0, closing: 0 },
    leases: 0,
    queue: { sessions: 0, waiters: 0 },
  })
  const { sessionsStarted, sessionsEnded } = pool.stats().totals
  expect(sessionsEnded).toBe(sessionsStarted)
}

async function finish(pool: Pool, backend: FakeBackend, clock: VirtualClock): Promise<void> {
  const closed = pool.close()
  backend.letGo()
  await clock.advance(10_000)
  backend.letGo()
  expect(await isSettled(closed), 'close() resolves').toBe(true)
}

export function expectNothingLeft(backend: FakeBackend, clock: VirtualClock): void {
  expect(
    backend.alive.map(({ id }) => id),
    'workers that are alive',
  ).toEqual([])
  expect(clock.pending, 'timers that are set').toBe(0)
  expect(backend.script.length, 'steps of the script that were not used').toBe(0)
}

/** At rest, every number of `stats()` follows from the others. */
export function expectStatsAddUp(pool: Pool): void {
  const stats = pool.stats()
  expect(wrongCounts(stats)).toEqual([])
  const { sessions, workers, totals } = stats
  const live = sessions.active + sessions.idle + sessions.closing
  expect(workers.leased, 'leased workers and live sessions').toBe(live)
  expect(totals.sessionsStarted - totals.sessionsEnded, 'sessions started and not ended').toBe(live)
  expect(stats.leases).toBeGreaterThanOrEqual(sessions.active + sessions.closing)
  expect(stats.queue.waiters).toBeGreaterThanOrEqual(stats.queue.sessions)
}

/** What must hold of the numbers at every moment, in the middle of an event too. */
export function wrongCounts({ workers, pendingAdds, size }: PoolStats): string[] {
  const { total, ...states } = workers
  const problems: string[] = []
  const sum = Object.values(states).reduce((left, right) => left + right, 0)
  if (sum !== total) problems.push(`${total} workers in all, but ${JSON.stringify(states)}`)
  if (total > size.max) problems.push(`${total} workers, more than max`)
  if (pendingAdds !== workers.spawning) problems.push(`${pendingAdds} pending, ${workers.spawning} spawning`)
  for (const [state, count] of Object.entries(states)) if (count < 0) problems.push(`${count} workers ${state}`)
  return problems
}

/** Whether a promise has settled by now. */
export async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let done = false
  const mark = () => {
    done = true
  }
  promise.then(mark, mark)
  await settled()
  return done
}

/** The reason that a promise is rejected with by now. */
export async function rejection(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  expect(await isSettled(promise), 'the promise has settled').toBe(true)
  return promise.then(
    () => expect.fail('the promise was fulfilled'),
    (error: Error) => error,
  )
}

/** Runs `act` and gives back the exceptions that surfaced outside of any call. */
export async function uncaught(act: () => unknown): Promise<unknown[]> {
  const errors: unknown[] = []
  const others = process.listeners('uncaughtException')
  const collect = (error: unknown) => void errors.push(error)
  process.removeAllListeners('uncaughtException').on('uncaughtException', collect)
  try {
    await act()
    await settled()
  } finally {
    process.off('uncaughtException', collect)
    for (const listener of others) process.on('uncaughtException', listener)
  }
  return errors
}
