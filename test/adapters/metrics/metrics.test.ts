import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { Registry } from 'prom-client'
import { createPool } from 'corral'
import { createGateway, fromHeader } from 'corral/h3'
import { createMetrics } from 'corral/metrics'
import { describe, expect, test } from 'vitest'
import { root } from '../../_build.ts'
import { FakeBackend } from '../../support/fake-backend.ts'
import { FakeHost } from '../../support/fake-host.ts'
import { openPool } from '../../support/scene.ts'
import { settled } from '../../support/virtual-clock.ts'
import { parseExposition, valueOf } from './_exposition.ts'

const hasPromtool = spawnSync('promtool', ['--version'], { stdio: 'ignore' }).status === 0

/** A pool on fake workers whose metrics are read with `read`. */
async function open(options: Parameters<typeof openPool>[0] = {}, backend = new FakeBackend()) {
  const metrics = await createMetrics()
  const scene = await openPool({ size: { min: 1, max: 3 }, onEvent: metrics.onEvent, ...options }, backend)
  metrics.watch(scene.pool)
  const read = async (name: string, labels?: Record<string, string>) => valueOf(await metrics.render(), name, labels)
  return { ...scene, metrics, read }
}

describe('of a pool', () => {
  test('workers, sessions, leases and waiters are those of its stats when they are scraped', async () => {
    const { pool, read, acquire } = await open()
    expect(await read('corral_workers', { state: 'healthy' })).toBe(1)
    const lease = await acquire('red')
    const others = [await acquire('red'), await acquire('blue'), await acquire('green')]
    const waiting = acquire('grey')
    await settled()
    const { workers, sessions, leases, queue, size } = pool.stats()
    for (const [state, value] of Object.entries(workers)) {
      if (state !== 'total') expect([state, await read('corral_workers', { state })]).toEqual([state, value])
    }
    for (const [state, value] of Object.entries(sessions)) {
      expect([state, await read('corral_sessions', { state })]).toEqual([state, value])
    }
    expect(await read('corral_workers_max')).toBe(size.max)
    expect(await read('corral_leases')).toBe(leases)
    expect(await read('corral_queue_sessions')).toBe(queue.sessions)
    expect(await read('corral_queue_waiters')).toBe(queue.waiters)
    expect([leases, queue.sessions]).toEqual([4, 1])
    for (const open of [lease, ...others]) open.release()
    await pool.end('red')
    const late = await waiting
    late.release()
  })

  test('its state and its breaker are 1 for what they are', async () => {
    const { pool, read } = await open()
    expect(await read('corral_pool_state', { state: 'running' })).toBe(1)
    expect(await read('corral_breaker_state', { state: 'closed' })).toBe(1)
    expect(await read('corral_breaker_state', { state: 'half_open' })).toBe(0)
    await pool.close()
    expect(await read('corral_pool_state', { state: 'running' })).toBe(0)
    expect(await read('corral_pool_state', { state: 'stopped' })).toBe(1)
  })

  test('the host is as it was sampled last, and absent before', async () => {
    const host = new FakeHost()
    const { read } = await open({ host, pressure: { memory: 0.8 } })
    expect(await read('corral_host_memory_used_bytes')).toBeUndefined()
    expect(await read('corral_pressure_state', { state: 'pressed' })).toBe(0)
    host.sample({ cpu: 0.25, memory: 0.9 })
    expect(await read('corral_host_cpu_usage_ratio')).toBe(0.25)
    expect(await read('corral_host_memory_used_bytes')).toBe(900)
    expect(await read('corral_host_memory_bytes')).toBe(1_000)
    expect(await read('corral_host_cpus')).toBeGreaterThan(0)
    expect(await read('corral_pressure_state', { state: 'pressed' })).toBe(1)
  })

  test('there are none while there is no pool', async () => {
    const metrics = await createMetrics()
    const families = parseExposition(await metrics.render())
    expect(families.get('corral_workers')?.samples).toEqual([])
    expect(families.get('corral_leases')?.samples).toEqual([])
    expect(families.get('corral_requests_in_progress')?.samples).toEqual([])
  })

  test('starts are counted from the very first, and those that fail apart', async () => {
    const { read, backend, pool } = await open({ size: { min: 2, max: 3 } })
    expect(await read('corral_worker_start_duration_seconds_count', { outcome: 'ready' })).toBe(2)
    expect(await read('corral_worker_start_duration_seconds_count', { outcome: 'failed' })).toBe(0)
    backend.launchError = new Error('no')
    await pool.acquire('a').then((lease) => lease.release())
    await pool.end('a').then(settled)
    expect(await read('corral_worker_start_duration_seconds_count', { outcome: 'failed' })).toBeGreaterThan(0)
    expect(await read('corral_worker_crashes_total', { reason: 'start_failed' })).toBeGreaterThan(0)
    backend.launchError = undefined
  })

  test('a worker that dies while it serves is a crash, and no failed start', async () => {
    const { read, backend, acquire } = await open()
    using lease = await acquire('red')
    backend.worker(lease.worker.id).exit({ signal: 'SIGKILL' })
    await settled()
    expect(await read('corral_worker_crashes_total', { reason: 'crashed' })).toBe(1)
    expect(await read('corral_sessions_ended_total', { reason: 'lost' })).toBe(1)
    expect(await read('corral_worker_start_duration_seconds_count', { outcome: 'failed' })).toBe(0)
  })

  test('a worker that cannot be reset is given up, once and for that reason', async () => {
    const reset = () => Promise.reject(new Error('it remembers'))
    const { read, pool, acquire } = await open({ session: { reuse: { reset } } })
    expect(await read('corral_worker_crashes_total', { reason: 'reset_failed' })).toBe(0)
    const red = await acquire('red')
    red.release()
    await pool.end('red').then(settled)
    expect(await read('corral_worker_crashes_total', { reason: 'reset_failed' })).toBe(1)
    expect(await read('corral_worker_crashes_total', { reason: 'crashed' })).toBe(0)
  })

  test('workers that are worn are counted by the cause', async () => {
    const { read, pool, acquire } = await open({ session: { reuse: 'dirty', reuseLimit: 1 } })
    expect(await read('corral_workers_worn_total', { cause: 'age' })).toBe(0)
    expect(await read('corral_workers_worn_total', { cause: 'memory' })).toBe(0)
    const red = await acquire('red')
    red.release()
    await pool.end('red').then(settled)
    expect(await read('corral_workers_worn_total', { cause: 'sessions' })).toBe(1)
    expect(await read('corral_worker_crashes_total', { reason: 'crashed' })).toBe(0)
  })

  test('sessions are counted as they start and by the reason of their end', async () => {
    const { read, pool, acquire, clock } = await open({ session: { idleTtl: 1_000 } })
    const red = await acquire('red')
    red.release()
    await pool.end('red')
    const blue = await acquire('blue')
    blue.release()
    await clock.advance(3_000)
    expect(await read('corral_sessions_started_total')).toBe(2)
    expect(await read('corral_sessions_ended_total', { reason: 'released' })).toBe(1)
    expect(await read('corral_sessions_ended_total', { reason: 'expired' })).toBe(1)
    expect(await read('corral_sessions_ended_total', { reason: 'max_age' })).toBe(0)
  })
})

describe('the registry', () => {
  test('is its own, or the one that is given', async () => {
    const registry = new Registry()
    const metrics = await createMetrics({ registry })
    expect(metrics.registry).toBe(registry)
    expect((await createMetrics()).registry).not.toBe((await createMetrics()).registry)
    await expect(createMetrics({ registry })).rejects.toThrow('already been registered')
  })

  test('tells two pools apart by default labels', async () => {
    const { metrics, read } = await open()
    metrics.registry.setDefaultLabels({ pool: 'one' })
    expect(await read('corral_workers', { state: 'healthy', pool: 'one' })).toBe(1)
  })

  test('has the metrics of the process on request', async () => {
    expect(await (await createMetrics()).render()).not.toContain('process_cpu')
    const metrics = await createMetrics({ processMetrics: true })
    expect(await metrics.render()).toContain('process_cpu_seconds_total')
  })

  test.each([{ registry: {} }, { registry: null }, { processMetrics: 1 }, { prefix: 'x' }])(
    'cannot be made with %j',
    async (options) => {
      await expect(createMetrics(options as object)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    },
  )
})

describe('what is exposed', () => {
  const exposed = async () => {
    const metrics = await createMetrics()
    const host = new FakeHost()
    const pool = await createPool({ worker: new FakeBackend(), onEvent: metrics.onEvent, host })
    host.sample({ cpu: 0, memory: 0 })
    const gateway = createGateway(pool, { sessionId: fromHeader('x'), onRequest: metrics.onRequest })
    metrics.watch(pool, gateway)
    for (const kind of ['http', 'websocket'] as const) {
      for (const outcome of ['answered', 'left'] as const) {
        metrics.onRequest({
          kind,
          outcome,
          status: 200,
          code: undefined,
          method: 'GET',
          target: '/',
          sessionId: 'red',
          principal: undefined,
          address: '127.0.0.1',
          workerId: 'w1',
          startedAt: 0,
          wait: 1,
          duration: 2,
          bytesIn: 3,
          bytesOut: 4,
        })
      }
    }
    const text = await metrics.render()
    await pool.close()
    return text
  }

  test('is the text format, with help and type of every metric', async () => {
    const families = parseExposition(await exposed())
    expect(families.size).toBeGreaterThan(10)
    for (const { name, type, help, samples } of families.values()) {
      expect(help, name).toMatch(/^[A-Z0-9].+\.$/)
      expect(name).toMatch(/^corral_[a-z_]+$/)
      expect(samples.length, name).toBeGreaterThan(0)
      // Counters end in _total, and nothing else does; times and sizes are in base units.
      expect(name.endsWith('_total'), name).toBe(type === 'counter')
      if (type === 'histogram') expect(name).toMatch(/_seconds$/)
      if (name.includes('bytes')) expect(name).toMatch(type === 'counter' ? /_bytes_total$/ : /_bytes$/)
    }
  })

  test('is what docs/operating.md lists', async () => {
    const { registry } = await createMetrics()
    const metrics = registry.getMetricsAsArray() as unknown as { name: string; type: string; labelNames: string[] }[]
    const [, table = ''] =
      /<!-- metrics -->\n\n((?:\|.*\n)+)/.exec(readFileSync(`${root}docs/operating.md`, 'utf8')) ?? []
    const rows = table
      .split('\n')
      .slice(2, -1)
      .map((row) =>
        row
          .split('|')
          .slice(1, 4)
          .map((cell) => cell.trim()),
      )
    const code = (text: string) => `\`${text}\``
    expect(rows).toEqual(
      metrics.map(({ name, type, labelNames }) => [code(name), type, labelNames.map(code).join(', ')]),
    )
  })

  test.skipIf(!hasPromtool && process.env['CI'] !== 'true')('satisfies promtool', async () => {
    const { stdout, stderr, status, error } = spawnSync('promtool', ['check', 'metrics'], {
      input: await exposed(),
      encoding: 'utf8',
    })
    expect(error).toBeUndefined()
    expect({ status, said: stdout + stderr }).toEqual({ status: 0, said: '' })
  })
})
