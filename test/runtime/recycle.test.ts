import { createPool, type PoolOptions, type WorkerBackend } from 'corral'
import { describe, expect, onTestFinished, test } from 'vitest'
import { FakeBackend } from '../support/fake-backend.ts'
import { isSettled, openPool, rejection, type Scene } from '../support/scene.ts'
import { settled } from '../support/virtual-clock.ts'

const one = { size: { min: 1, max: 1 } }
const HOUR = 3_600_000
const MIB = 1024 ** 2

/** Longest time between two measurements. */
const interval = 10_000

/** A worker that answers no probe of its own accord: time passes in one step. */
function quietBackend(): FakeBackend {
  const backend = new FakeBackend()
  backend.liveness = { ...backend.liveness, interval: 0 }
  return backend
}

const open = (options: Omit<PoolOptions, 'worker'>, backend = quietBackend()) =>
  openPool({ session: { idleTtl: false, reuse: 'dirty' }, ...options }, backend)

async function endSession({ pool }: Pick<Scene, 'pool'>, id: string): Promise<void> {
  await pool.end(id)
  await settled()
}

/** A worker that is replaced for its wear has not failed in anything. */
function expectNoFailure({ told, pool }: Scene): void {
  expect(told('worker.crashed')).toEqual([])
  expect(told('worker.restarting')).toEqual([])
  expect(told('worker.dead').every(({ reason }) => reason === 'stopped')).toBe(true)
  expect(pool.stats()).toMatchObject({ breaker: 'closed', totals: { workersCrashed: 0 } })
}

describe('an idle worker', () => {
  test('is replaced in the last fifth before the age that is set, and not before', async () => {
    const scene = await open({ ...one, recycle: { age: HOUR } })
    await scene.clock.advance(0.8 * HOUR - 1)
    expect(scene.backend.calls).toBe(1)
    await scene.clock.advance(0.2 * HOUR + 1)
    expect(scene.told('worker.worn')).toEqual([{ type: 'worker.worn', workerId: 'w1', cause: 'age' }])
    expect(scene.backend.worker('w1')).toMatchObject({ isAlive: false, stops: 1 })
    expect(scene.pool.stats()).toMatchObject({ workers: { healthy: 1, total: 1 }, totals: { workersWorn: 1 } })
    expectNoFailure(scene)
  })

  test('is replaced without reuse, too', async () => {
    const scene = await open({ ...one, session: { reuse: false }, recycle: { age: HOUR } })
    await scene.clock.advance(HOUR)
    expect((await scene.acquire('a')).worker.id).toBe('w2')
  })

  test('is as old as its process, start included', async () => {
    const backend = quietBackend()
    backend.startTimeout = HOUR
    backend.behaviour = { ready: false }
    const scene = await open({ size: { min: 0, max: 1 }, recycle: { age: HOUR } }, backend)
    const lease = scene.acquire('a', { timeout: HOUR })
    await scene.clock.advance(HOUR / 2)
    backend.worker('w1').becomeReady()
    const { worker } = await lease
    expect(worker.id).toBe('w1')
    await scene.clock.advance(HOUR / 2)
    expect(scene.told('worker.worn')).toHaveLength(1)
  })

  test('is replaced when it takes more memory than is set, and not for as much', async () => {
    const scene = await open({ ...one, recycle: { memory: 100 * MIB } })
    scene.backend.worker('w1').memory = 100 * MIB
    await scene.clock.advance(10 * interval)
    expect(scene.told('worker.worn')).toEqual([])
    scene.backend.worker('w1').memory = 100 * MIB + 1
    await scene.clock.advance(interval)
    expect(scene.told('worker.worn')).toEqual([{ type: 'worker.worn', workerId: 'w1', cause: 'memory' }])
    expect(scene.pool.stats().workers).toMatchObject({ healthy: 1, total: 1 })
    expectNoFailure(scene)
  })

  test('that is beyond need is not replaced but stopped', async () => {
    const scene = await open({ size: { min: 0, max: 1, shrinkAfter: 10 * HOUR }, recycle: { age: HOUR } })
    const lease = await scene.acquire('a')
    lease.release()
    await endSession(scene, 'a')
    await scene.clock.advance(HOUR)
    expect(scene.told('worker.worn')).toHaveLength(1)
    expect(scene.pool.stats().workers.total).toBe(0)
    expect(scene.backend.calls).toBe(1)
  })

  test('is not leased by who asks when it is told to be worn: the session goes to a fresh one', async () => {
    const scene = await open({ size: { min: 1, max: 2 }, recycle: { age: HOUR } })
    let lease: ReturnType<Scene['acquire']> | undefined
    scene.pool.on('worker.worn', () => {
      lease = scene.acquire('a')
    })
    await scene.clock.advance(HOUR)
    expect((await lease!).worker.id).toBe('w2')
    expect(scene.told('session.ended')).toEqual([])
  })

  test('that is worn while a session is on its way to it gives that back, in its place', async () => {
    const scene = await open({ ...one, recycle: { age: HOUR } })
    const worker = scene.pool.actor.getSnapshot().children['slot1']!
    // The pool hears of the wear only after it has sent the lease.
    let first: ReturnType<Scene['acquire']> | undefined
    let second: ReturnType<Scene['acquire']> | undefined
    const subscription = worker.on('worker.worn', () => {
      first = scene.acquire('a')
      second = scene.acquire('b')
    })
    worker.send({ type: 'worker.worn', cause: 'age' })
    subscription.unsubscribe()
    await settled()
    expect((await first!).worker.id).toBe('w2')
    expect(await isSettled(second!)).toBe(false)
    expect(scene.told('session.started').map(({ sessionId }) => sessionId)).toEqual(['a'])
    ;(await first!).release()
    await endSession(scene, 'a')
    expect((await second!).worker.id).toBe('w2')
  })
})

describe('a leased worker', () => {
  test('serves its session to its own end, and is replaced then', async () => {
    const scene = await open({ ...one, recycle: { age: HOUR } })
    const lease = await scene.acquire('a')
    await scene.clock.advance(5 * HOUR)
    expect(scene.told('worker.worn')).toEqual([{ type: 'worker.worn', workerId: 'w1', cause: 'age' }])
    expect(scene.told('worker.draining')).toEqual([])
    expect(lease.signal.aborted).toBe(false)
    expect(scene.backend.worker('w1')).toMatchObject({ isAlive: true, stops: 0 })
    using again = await scene.acquire('a')
    expect(again.worker.id).toBe('w1')
    lease.release()
    again.release()
    await endSession(scene, 'a')
    expect(scene.told('session.ended')).toMatchObject([{ reason: 'released' }])
    expect((await scene.acquire('b')).worker.id).toBe('w2')
    expectNoFailure(scene)
  })

  test('likewise when it takes too much memory, even if it gives that back', async () => {
    const scene = await open({ ...one, recycle: { memory: MIB } })
    const lease = await scene.acquire('a')
    scene.backend.worker('w1').memory = 2 * MIB
    await scene.clock.advance(interval)
    scene.backend.worker('w1').memory = 0
    const { measures } = scene.backend.worker('w1')
    await scene.clock.advance(10 * interval)
    expect(scene.backend.worker('w1').measures).toBe(measures)
    expect(lease.signal.aborted).toBe(false)
    lease.release()
    await endSession(scene, 'a')
    expect((await scene.acquire('b')).worker.id).toBe('w2')
    expect(scene.pool.stats().totals.workersWorn).toBe(1)
  })

  test('is not told to be worn without reuse: it is replaced after its session anyway', async () => {
    const scene = await open({ ...one, session: { idleTtl: false, reuse: false }, recycle: { age: HOUR } })
    await scene.acquire('a')
    await scene.clock.advance(2 * HOUR)
    expect(scene.told('worker.worn')).toEqual([])
    expect(scene.pool.stats().totals.workersWorn).toBe(0)
  })

  test('that is worn has its session ended by a drain of it as any other', async () => {
    const scene = await open({ ...one, recycle: { age: HOUR } })
    const lease = await scene.acquire('a')
    await scene.clock.advance(HOUR)
    const drained = scene.pool.drainWorker('w1', { deadline: 1_000 })
    await scene.clock.advance(1_000)
    expect(lease.signal.aborted).toBe(true)
    expect(await drained).toBe(true)
    expect(scene.told('session.ended')).toMatchObject([{ reason: 'drained' }])
  })

  test('that is worn and crashes starts again as a fresh process, which serves on', async () => {
    const scene = await open({ ...one, recycle: { age: HOUR }, restart: { minDelay: 0, maxDelay: 0 } })
    await scene.acquire('a')
    await scene.clock.advance(HOUR)
    scene.backend.worker('w1').exit()
    await scene.clock.advance(1)
    expect(scene.told('session.lost')).toHaveLength(1)
    const lease = await scene.acquire('b')
    lease.release()
    await endSession(scene, 'b')
    expect((await scene.acquire('c')).worker.id).toBe('w1')
    expect(scene.told('worker.worn')).toHaveLength(1)
  })
})

test('a worker that is worn while it resets is replaced, and its reset given up', async () => {
  const signals: AbortSignal[] = []
  const reset = (_worker: unknown, signal: AbortSignal) => {
    signals.push(signal)
    return new Promise<void>(() => {})
  }
  const session = { reuse: { reset, timeout: HOUR } }
  const scene = await open({ ...one, session, recycle: { age: HOUR } })
  const lease = await scene.acquire('a')
  lease.release()
  await endSession(scene, 'a')
  await scene.clock.advance(HOUR - 1)
  expect(signals[0]?.aborted).toBe(true)
  expect(scene.told('worker.worn')).toHaveLength(1)
  expect(scene.pool.stats().workers).toMatchObject({ healthy: 1, total: 1 })
  expectNoFailure(scene)
})

test('a process that has served all of its sessions is told to be worn for them', async () => {
  const scene = await open({ ...one, session: { reuse: 'dirty', reuseLimit: 1 } })
  const lease = await scene.acquire('a')
  lease.release()
  await endSession(scene, 'a')
  expect(scene.told('worker.worn')).toEqual([{ type: 'worker.worn', workerId: 'w1', cause: 'sessions' }])
  expect(scene.pool.stats().totals.workersWorn).toBe(1)
})

test('workers that were started together are not replaced together', async () => {
  const scene = await open({ size: { min: 8, max: 16 }, recycle: { age: HOUR } })
  const moments: number[] = []
  scene.pool.on('worker.worn', () => moments.push(scene.clock.now()))
  let fewest = 8
  scene.pool.on('*', () => {
    fewest = Math.min(fewest, scene.pool.stats().workers.healthy)
  })
  await scene.clock.advance(HOUR)
  expect(moments).toHaveLength(8)
  expect(new Set(moments).size).toBe(8)
  expect(moments.at(-1)! - moments[0]!).toBeGreaterThan(0.1 * HOUR)
  expect(fewest).toBe(7)
})

test('each process of a worker that restarts has an age of its own', async () => {
  const scene = await open({ ...one, recycle: { age: HOUR }, restart: { minDelay: 0, maxDelay: 0 } })
  await scene.clock.advance(HOUR / 2)
  scene.backend.worker('w1').exit()
  await scene.clock.advance(1)
  await scene.clock.advance(0.75 * HOUR)
  expect(scene.told('worker.worn')).toEqual([])
  await scene.clock.advance(HOUR / 4)
  expect(scene.told('worker.worn')).toHaveLength(1)
})

describe('memory', () => {
  test('is measured at most every 10 seconds, of each worker, for as long as it serves', async () => {
    const scene = await open({ size: { min: 2, max: 2 }, recycle: { memory: MIB } })
    await scene.clock.advance(100_000)
    for (const { measures } of scene.backend.workers) {
      expect(measures).toBeGreaterThanOrEqual(10)
      expect(measures).toBeLessThanOrEqual(20)
    }
    const before = scene.backend.workers.map(({ measures }) => measures)
    await scene.pool.close()
    await scene.clock.advance(100_000)
    expect(scene.backend.workers.map(({ measures }) => measures)).toEqual(before)
  })

  test('is not measured for an age', async () => {
    const scene = await open({ ...one, recycle: { age: HOUR } })
    expect(scene.clock.pending).toBe(1)
    await scene.clock.advance(100_000)
    expect(scene.backend.worker('w1').measures).toBe(0)
  })

  test('is not measured, and no timer set, unless it is asked for', async () => {
    const scene = await open(one)
    expect(scene.clock.pending).toBe(0)
    await scene.clock.advance(100_000)
    expect(scene.backend.worker('w1').measures).toBe(0)
  })

  test('that cannot be measured is a warning, once for a process, and no reason to replace it', async () => {
    const warnings: string[] = []
    const collect = ({ message }: Error) => void warnings.push(message)
    process.on('warning', collect)
    onTestFinished(() => void process.off('warning', collect))
    const scene = await open({ ...one, recycle: { memory: MIB } })
    const worker = scene.backend.worker('w1')
    worker.memory = undefined
    await scene.clock.advance(10 * interval)
    expect(warnings).toEqual(['The memory of worker w1 cannot be measured (recycle.memory): the scales are broken'])
    expect(scene.told('worker.worn')).toEqual([])
    worker.memory = 2 * MIB
    await scene.clock.advance(interval)
    expect(scene.told('worker.worn')).toHaveLength(1)
  })

  test('is refused, before anything is started, on a backend that cannot measure it', async () => {
    const backend = quietBackend()
    const worker: WorkerBackend = { launch: (context) => backend.launch(context) }
    const error = await rejection(createPool({ worker, recycle: { memory: MIB } }))
    expect(backend.calls).toBe(0)
    expect(error).toMatchObject({ code: 'INVALID_OPTION', option: 'recycle.memory' })
    expect(error.message).toContain('memoryOf')
  })
})
