import { createPool } from 'corral'
import { describe, expect, test } from 'vitest'
import { FakeBackend } from '../support/fake-backend.ts'
import { expectNothingLeft, isSettled, openPool, rejection, startPool } from '../support/scene.ts'
import { settled, VirtualClock } from '../support/virtual-clock.ts'

describe('createPool', () => {
  test('starts the first workers in parallel, and resolves when `min` of them are healthy', async () => {
    const { starting, backend } = startPool({ size: { min: 3, max: 5 } }, new FakeBackend({ ready: false }))
    await settled()
    expect(backend.alive.map(({ id }) => id)).toEqual(['w1', 'w2', 'w3'])
    backend.worker('w3').becomeReady()
    backend.worker('w1').becomeReady()
    expect(await isSettled(starting)).toBe(false)
    backend.worker('w2').becomeReady()
    const pool = await starting
    expect(pool.stats()).toMatchObject({ state: 'running', pendingAdds: 0, workers: { total: 3, healthy: 3 } })
  })

  test('starts no more at a time than startConcurrency', async () => {
    const { starting, backend } = startPool(
      { size: { min: 3, max: 5, startConcurrency: 2 } },
      new FakeBackend({ ready: false }),
    )
    await settled()
    expect(backend.workers.map(({ id }) => id)).toEqual(['w1', 'w2'])
    backend.worker('w1').becomeReady()
    await settled()
    expect(backend.workers.map(({ id }) => id)).toEqual(['w1', 'w2', 'w3'])
    for (const worker of backend.workers) worker.becomeReady()
    await starting
  })

  test('does not wait for warm spares', async () => {
    const { starting, backend } = startPool({ size: { min: 1, max: 5, warm: 2 } }, new FakeBackend({ ready: false }))
    await settled()
    expect(backend.alive).toHaveLength(3)
    backend.worker('w2').becomeReady()
    expect((await starting).stats()).toMatchObject({ workers: { total: 3, healthy: 1, spawning: 2 } })
  })

  test('with min 0 it resolves without a worker', async () => {
    const { pool, backend } = await openPool({ size: { min: 0 } })
    await settled()
    expect(backend.calls).toBe(0)
    expect(pool.stats()).toMatchObject({ state: 'running', workers: { total: 0 } })
  })

  test('with min 0 it starts warm spares all the same', async () => {
    const { pool } = await openPool({ size: { min: 0, warm: 2 } })
    await settled()
    expect(pool.stats().workers).toMatchObject({ total: 2, healthy: 2 })
  })

  test('rejects when a worker exits before it is ready, and stops all others first', async () => {
    const backend = new FakeBackend({ ready: false, stops: false })
    const { starting, clock } = startPool({ size: { min: 3 } }, backend)
    await settled()
    backend.worker('w1').becomeReady()
    backend.worker('w2').lines = ['listening…', 'address in use']
    backend.worker('w2').exit({ exitCode: 7 })
    expect(await isSettled(starting), 'rejects before the others are gone').toBe(false)
    expect(backend.worker('w1').stops).toBe(1)
    backend.worker('w1').exit({ exitCode: 0 })
    expect(await isSettled(starting)).toBe(false)
    await clock.advance(backend.stopGrace)
    const error = await rejection(starting)
    expect(error).toMatchObject({
      name: 'WorkerStartError',
      code: 'WORKER_START_FAILED',
      exitCode: 7,
      signal: null,
      output: ['listening…', 'address in use'],
    })
    expect(error.message).toContain('exited with status 7')
    expect(error.message).toContain('address in use')
    expect(backend.worker('w3').kills).toBeGreaterThan(0)
  })

  test('rejects with the signal that ended the worker', async () => {
    const backend = new FakeBackend({ ready: false })
    const { starting } = startPool({}, backend)
    await settled()
    backend.worker('w1').exit({ signal: 'SIGSEGV' })
    const error = await rejection(starting)
    expect(error).toMatchObject({ code: 'WORKER_START_FAILED', exitCode: null, signal: 'SIGSEGV' })
    expect(error.message).toContain('SIGSEGV')
  })

  test('rejects with what readiness failed with, and kills the worker', async () => {
    const backend = new FakeBackend({ ready: false })
    const { starting } = startPool({}, backend)
    await settled()
    backend.worker('w1').lines = ['no model found']
    backend.worker('w1').failReadiness('GET /health answered 500')
    const error = await rejection(starting)
    expect(error).toMatchObject({ code: 'WORKER_START_FAILED', output: ['no model found'] })
    expect(error.message).toContain('GET /health answered 500')
    expect(backend.worker('w1').kills).toBeGreaterThan(0)
  })

  test('rejects when a worker is not ready in time, with its last output, and waits until it is gone', async () => {
    const backend = new FakeBackend({ ready: false, dies: false })
    const { starting, clock } = startPool({}, backend)
    await settled()
    backend.worker('w1').lines = ['loading 41 %']
    await clock.advance(backend.startTimeout - 1)
    expect(backend.worker('w1').kills).toBe(0)
    await clock.advance(1)
    expect(backend.worker('w1').kills).toBeGreaterThan(0)
    expect(await isSettled(starting)).toBe(false)
    backend.worker('w1').exit({ signal: 'SIGKILL' })
    const error = await rejection(starting)
    expect(error).toMatchObject({ code: 'WORKER_START_TIMEOUT', signal: 'SIGKILL', output: ['loading 41 %'] })
    expect(error.message).toContain('loading 41 %')
  })

  test('a launch that hangs counts against the start timeout and is told to give up', async () => {
    const backend = new FakeBackend({ launches: false })
    const { starting, clock } = startPool({}, backend)
    await clock.advance(backend.startTimeout)
    expect(backend.launches[0]?.signal.aborted).toBe(true)
    expect(await isSettled(starting)).toBe(false)
    backend.launches[0]?.fail(new Error('given up'))
    expect(await rejection(starting)).toMatchObject({ code: 'WORKER_START_TIMEOUT' })
  })

  test('a worker that comes of a launch nobody wants any more is killed', async () => {
    const backend = new FakeBackend({ launches: false })
    const { starting, clock } = startPool({}, backend)
    await clock.advance(backend.startTimeout)
    backend.launches[0]?.succeed()
    expect(await rejection(starting)).toMatchObject({ code: 'WORKER_START_TIMEOUT' })
    expect(backend.workers).toHaveLength(1)
    expect(backend.workers[0]?.kills).toBeGreaterThan(0)
  })

  test('an exit that says so is tried again, up to startAttempts', async () => {
    const backend = new FakeBackend({ ready: false })
    backend.startAttempts = 3
    backend.script.push(
      (worker) => worker.exit({ exitCode: 1, retry: true }),
      (worker) => worker.exit({ exitCode: 1, retry: true }),
      (worker) => worker.becomeReady(),
    )
    const { starting } = startPool({}, backend)
    const pool = await starting
    expect(backend.workers.map(({ id }) => id)).toEqual(['w1', 'w1', 'w1'])
    expect(pool.stats()).toMatchObject({ workers: { total: 1, healthy: 1 }, totals: { workersCrashed: 0 } })
  })

  test('an exit that says so after readiness has failed is tried again too', async () => {
    const backend = new FakeBackend({ ready: false, dies: false })
    backend.script.push(
      (worker) => worker.failReadiness('connected to somebody else'),
      (worker) => worker.becomeReady(),
    )
    const { starting } = startPool({}, backend)
    await settled()
    backend.worker('w1').exit({ exitCode: 1, retry: true })
    await starting
    expect(backend.workers).toHaveLength(2)
    expect(backend.alive).toHaveLength(1)
  })

  test('gives up after the last attempt, with the last failure', async () => {
    const backend = new FakeBackend({ ready: false })
    backend.startAttempts = 2
    backend.script.push(
      (worker) => worker.exit({ exitCode: 1, retry: true }),
      (worker) => worker.exit({ exitCode: 2, retry: true }),
    )
    const { starting } = startPool({}, backend)
    expect(await rejection(starting)).toMatchObject({ code: 'WORKER_START_FAILED', exitCode: 2 })
    expect(backend.calls).toBe(2)
  })

  test('every attempt gets the whole start timeout', async () => {
    const backend = new FakeBackend({ ready: false })
    const { starting, clock } = startPool({}, backend)
    await clock.advance(900)
    backend.worker('w1').exit({ exitCode: 1, retry: true })
    await clock.advance(900)
    backend.worker('w1').becomeReady()
    expect((await starting).stats().workers.healthy).toBe(1)
  })

  test('a start that timed out is not tried again', async () => {
    const backend = new FakeBackend({ ready: false, dies: false })
    const { starting, clock } = startPool({}, backend)
    await clock.advance(backend.startTimeout)
    backend.worker('w1').exit({ exitCode: 1, retry: true })
    expect(await rejection(starting)).toMatchObject({ code: 'WORKER_START_TIMEOUT' })
    expect(backend.calls).toBe(1)
  })

  test('a launch that fails is not tried again', async () => {
    const backend = new FakeBackend()
    backend.launchError = new Error('spawn ./nope ENOENT')
    const { starting } = startPool({}, backend)
    const error = await rejection(starting)
    expect(error).toMatchObject({ code: 'WORKER_START_FAILED', exitCode: null, signal: null })
    expect(error.message).toContain('spawn ./nope ENOENT')
    expect(backend.calls).toBe(1)
  })

  test('a signal that aborts stops what was started and rejects with its reason', async () => {
    const controller = new AbortController()
    const backend = new FakeBackend({ ready: false })
    const { starting, clock } = startPool({ size: { min: 2 }, signal: controller.signal }, backend)
    await settled()
    backend.worker('w1').becomeReady()
    await settled()
    const reason = new Error('changed my mind')
    controller.abort(reason)
    expect(await rejection(starting)).toBe(reason)
    expectNothingLeft(backend, clock)
    expect(backend.workers.map(({ stops }) => stops)).toEqual([1, 1])
  })

  test('a force signal kills what the other one is stopping, or what has been started', async () => {
    for (const isStopping of [true, false]) {
      const [polite, force] = [new AbortController(), new AbortController()]
      const backend = new FakeBackend({ ready: false, stops: false })
      const signals = { signal: polite.signal, forceSignal: force.signal }
      const { starting, clock } = startPool({ size: { min: 2 }, ...signals }, backend)
      await settled()
      if (isStopping) {
        polite.abort(new Error('changed my mind'))
        expect(await isSettled(starting)).toBe(false)
      }
      force.abort(new Error('now'))
      expect(await rejection(starting)).toEqual(new Error(isStopping ? 'changed my mind' : 'now'))
      expectNothingLeft(backend, clock)
      expect(backend.workers.map(({ kills }) => kills > 0)).toEqual([true, true])
    }
  })

  test('a signal that has aborted starts nothing', async () => {
    const backend = new FakeBackend()
    const reason = new Error('too late')
    const { starting } = startPool({ signal: AbortSignal.abort(reason) }, backend)
    expect(await rejection(starting)).toBe(reason)
    const forced = startPool({ forceSignal: AbortSignal.abort(reason) }, backend)
    expect(await rejection(forced.starting)).toBe(reason)
    expect(backend.calls).toBe(0)
  })

  test('a signal that aborts in the moment of success leaves no half-stopped pool behind', async () => {
    const controller = new AbortController()
    const backend = new FakeBackend()
    const reason = new Error('changed my mind')
    const { starting } = startPool(
      {
        signal: controller.signal,
        inspect: (event) => {
          if (event.type === '@xstate.snapshot' && event.event.type === 'worker.ready') controller.abort(reason)
        },
      },
      backend,
    )
    expect(await rejection(starting)).toBe(reason)
  })

  test('a signal that aborts later has no effect', async () => {
    const controller = new AbortController()
    const { pool } = await openPool({ signal: controller.signal })
    controller.abort()
    await settled()
    expect(pool.stats().state).toBe('running')
  })

  test('rejects invalid options before it starts anything', async () => {
    const backend = new FakeBackend()
    const clock = new VirtualClock()
    const pool = createPool({ worker: backend, clock, size: { min: 3, max: 2 } })
    expect(await rejection(pool)).toMatchObject({ code: 'INVALID_OPTION', option: 'size.min' })
    expectNothingLeft(backend, clock)
    expect(backend.calls).toBe(0)
  })
})
