import type { ResetHook, WorkerInfo } from 'corral'
import { describe, expect, test } from 'vitest'
import { FakeBackend } from '../support/fake-backend.ts'
import { isSettled, openPool } from '../support/scene.ts'
import { settled } from '../support/virtual-clock.ts'

const one = { size: { min: 1, max: 1 } }

/** A reset hook that a test answers for. */
function manualReset() {
  const calls: { worker: WorkerInfo; signal: AbortSignal; succeed(): void; fail(error: Error): void }[] = []
  const reset: ResetHook['reset'] = (worker, signal) =>
    new Promise((resolve, reject) => calls.push({ worker, signal, succeed: resolve, fail: reject }))
  return { calls, reuse: { reset, timeout: 1_000 } }
}

async function serve({ acquire, pool }: Pick<Awaited<ReturnType<typeof openPool>>, 'acquire' | 'pool'>, id = 'a') {
  const lease = await acquire(id)
  lease.release()
  await pool.end(id)
  await settled()
  return lease.worker
}

describe('without reuse', () => {
  test('a worker whose session ended is stopped and replaced by a fresh process', async () => {
    const scene = await openPool(one)
    const first = await serve(scene)
    const second = await serve(scene)
    expect([first.id, second.id]).toEqual(['w1', 'w2'])
    expect(scene.backend.worker('w1')).toMatchObject({ isAlive: false, stops: 1 })
    expect(scene.told('worker.dead')[0]).toMatchObject({ workerId: 'w1', reason: 'stopped', exitCode: 0 })
    expect(scene.told('worker.crashed')).toEqual([])
  })
})

describe('with a reuseLimit', () => {
  test('a process is replaced after so many sessions, and not before', async () => {
    const scene = await openPool({ ...one, session: { reuse: 'dirty', reuseLimit: 2 } })
    const served = [await serve(scene), await serve(scene), await serve(scene), await serve(scene)]
    expect(served.map(({ id }) => id)).toEqual(['w1', 'w1', 'w2', 'w2'])
    expect(scene.told('worker.dead')[0]).toMatchObject({ workerId: 'w1', reason: 'stopped' })
    expect(scene.told('worker.crashed')).toEqual([])
  })

  test('the last session of a process is not followed by a reset', async () => {
    const { calls, reuse } = manualReset()
    const scene = await openPool({ ...one, session: { reuse, reuseLimit: 1 } })
    await serve(scene)
    expect(calls).toEqual([])
    expect(scene.backend.worker('w1')).toMatchObject({ isAlive: false, stops: 1 })
  })

  test.each([0, 1.5, true])('%s is refused', async (reuseLimit) => {
    const session = { reuse: 'dirty', reuseLimit } as object
    await expect(openPool({ ...one, session })).rejects.toMatchObject({ option: 'session.reuseLimit' })
  })

  test('one that would limit nothing is refused', async () => {
    const opened = openPool({ ...one, session: { reuseLimit: 2 } })
    await expect(opened).rejects.toMatchObject({ option: 'session.reuseLimit' })
    await expect(opened).rejects.toThrow('without session.reuse')
  })
})

describe("with reuse 'dirty'", () => {
  test('the same process serves the next session', async () => {
    const scene = await openPool({ ...one, session: { reuse: 'dirty' } })
    const first = await serve(scene, 'a')
    const second = await serve(scene, 'b')
    expect(second).toEqual(first)
    expect(scene.backend.calls).toBe(1)
  })

  test('one worker still serves one session at a time', async () => {
    const { acquire, pool } = await openPool({ ...one, session: { reuse: 'dirty' } })
    const first = await acquire('a')
    const waiting = acquire('b')
    expect(await isSettled(waiting)).toBe(false)
    first.release()
    first.release()
    await pool.end('a')
    expect((await waiting).worker).toEqual(first.worker)
  })
})

describe('with a reset hook', () => {
  test('the worker serves again only when the hook has succeeded', async () => {
    const { calls, reuse } = manualReset()
    const scene = await openPool({ ...one, session: { reuse } })
    const first = await serve(scene, 'a')
    const waiting = scene.acquire('b')
    expect(await isSettled(waiting)).toBe(false)
    expect(scene.pool.stats().workers).toMatchObject({ resetting: 1, total: 1 })
    expect(scene.told('worker.resetting')).toEqual([{ type: 'worker.resetting', workerId: 'w1' }])
    expect(calls).toHaveLength(1)
    expect(calls[0]?.worker).toEqual(first)
    calls[0]?.succeed()
    expect((await waiting).worker).toEqual(first)
    expect(scene.backend.calls).toBe(1)
  })

  test('that fails, the worker is stopped and replaced', async () => {
    const { calls, reuse } = manualReset()
    const scene = await openPool({ ...one, session: { reuse } })
    await serve(scene, 'a')
    const waiting = scene.acquire('b')
    scene.backend.worker('w1').lines = ['cannot forget']
    calls[0]?.fail(new Error('POST /reset answered 500'))
    expect((await waiting).worker.id).toBe('w2')
    const failure = { code: 'WORKER_RESET_FAILED', message: 'POST /reset answered 500', output: ['cannot forget'] }
    expect(scene.told('worker.draining')).toMatchObject([{ workerId: 'w1', failure }])
    expect(scene.told('worker.dead')).toMatchObject([{ workerId: 'w1', reason: 'failed' }])
  })

  test('that throws at once, likewise', async () => {
    const reset = (): Promise<void> => {
      throw new Error('no such thing')
    }
    const scene = await openPool({ ...one, session: { reuse: { reset } } })
    await serve(scene, 'a')
    expect(scene.told('worker.dead')).toMatchObject([{ workerId: 'w1', reason: 'failed' }])
    expect(scene.pool.stats().totals).toMatchObject({ resetsFailed: 1, workersCrashed: 0 })
    expect((await scene.acquire('b')).worker.id).toBe('w2')
  })

  test('that takes too long is given up, and the worker is replaced', async () => {
    const { calls, reuse } = manualReset()
    const scene = await openPool({ ...one, session: { reuse } })
    await serve(scene, 'a')
    await scene.clock.advance(999)
    expect(calls[0]?.signal.aborted).toBe(false)
    await scene.clock.advance(1)
    expect(calls[0]?.signal.aborted).toBe(true)
    expect(scene.told('worker.draining')).toMatchObject([{ failure: { code: 'WORKER_RESET_FAILED' } }])
    calls[0]?.succeed()
    expect((await scene.acquire('b')).worker.id).toBe('w2')
  })

  test('a worker that dies meanwhile is a crash like any other', async () => {
    const { calls, reuse } = manualReset()
    const scene = await openPool({ ...one, session: { reuse }, restart: { minDelay: 100 } })
    await serve(scene, 'a')
    scene.backend.worker('w1').exit({ exitCode: 6 })
    await settled()
    expect(calls[0]?.signal.aborted).toBe(true)
    expect(scene.told('worker.crashed')).toMatchObject([{ failure: { code: 'WORKER_CRASHED', exitCode: 6 } }])
    expect(scene.told('session.lost')).toEqual([])
    await scene.clock.advance(100)
    expect(scene.pool.stats().workers).toMatchObject({ healthy: 1, total: 1 })
  })

  test('is not called after a crash', async () => {
    const { calls, reuse } = manualReset()
    const { acquire, backend } = await openPool({ ...one, session: { reuse } })
    await acquire('a')
    backend.worker('w1').exit()
    await settled()
    expect(calls).toEqual([])
  })

  test('is given up when the pool closes', async () => {
    const { calls, reuse } = manualReset()
    const scene = await openPool({ ...one, session: { reuse } })
    await serve(scene, 'a')
    await scene.pool.close()
    expect(calls[0]?.signal.aborted).toBe(true)
  })

  test('a worker that resets counts as coming: nothing is started for who waits for it', async () => {
    const { calls, reuse } = manualReset()
    const scene = await openPool({ size: { min: 1, max: 5 }, session: { reuse } }, new FakeBackend())
    await serve(scene, 'a')
    const waiting = scene.acquire('b')
    await settled()
    expect(scene.backend.calls).toBe(1)
    calls[0]?.succeed()
    await waiting
  })
})
