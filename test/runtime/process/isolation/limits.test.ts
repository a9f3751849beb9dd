import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import type { PoolEvent } from 'corral'
import { parseHierarchies } from '../../../../src/runtime/process/cgroup/hierarchies.ts'
import { hungryWorker, isolated, openPool, sh, stateDirectory, usesIsolation } from './_isolated.ts'

usesIsolation()

const MIB = 1024 ** 2
const isRoot = process.geteuid?.() === 0

describe.runIf(process.platform === 'linux' && isRoot).each(['none', 'group', 'full'] as const)(
  'at level %s',
  (level) => {
    test('a worker whose memory is used up is lost for that reason, in events, errors and stats', async () => {
      const limits = { memory: 128 * MIB }
      const options = { ...isolated(level), ...hungryWorker, limits }
      const { pool, events } = await openPool(options)
      const lease = await pool.acquire('red')
      await expect(sh(lease, 'eat')).rejects.toThrow(/ECONNRESET|hang up/)
      await vi.waitUntil(() => events.some(({ type }) => type === 'session.lost'))
      const lost = events.find((event): event is PoolEvent<'session.lost'> => event.type === 'session.lost')
      expect(lost).toMatchObject({ reason: 'oom', signal: 'SIGKILL', error: { code: 'SESSION_LOST', reason: 'oom' } })
      expect(lost?.error.message).toContain(`${128 * MIB} bytes (limits.memory)`)
      expect(events.find(({ type }) => type === 'worker.crashed')).toMatchObject({ reason: 'oom' })
      expect(pool.stats().totals).toMatchObject({ workersCrashed: 1, workersOutOfMemory: 1 })
    })

    test('a worker that is killed is not taken for one that ran out of memory', async () => {
      const { pool, events } = await openPool(isolated(level, { limits: { memory: 256 * MIB } }))
      using lease = await pool.acquire('red')
      process.kill(lease.worker.pid!, 'SIGKILL')
      await vi.waitUntil(() => events.some(({ type }) => type === 'session.lost'))
      expect(events.find(({ type }) => type === 'session.lost')).toMatchObject({ reason: 'crashed' })
      expect(pool.stats().totals.workersOutOfMemory).toBe(0)
    })

    test('a fork bomb ends at the limit, and goes with its worker', async () => {
      const directory = stateDirectory()
      const options = isolated(level, { limits: { pids: 40 }, ...(level !== 'none' && { stateDirectory: directory }) })
      const { pool } = await openPool(options)
      using lease = await pool.acquire('red')
      const bomb = 'for i in $(seq 100); do sleep 1000 >/dev/null 2>&1 & done'
      const { output } = await sh(lease, bomb)
      expect(output).toMatch(/fork|[Rr]esource/)
      const healthy = await pool.acquire('blue')
      expect(await sh(healthy, 'echo well')).toMatchObject({ output: 'well\n' })
      healthy.release()
      await pool.close({ force: true })
    })

    test('the limits are where the kernel looks for them', async () => {
      const { pool } = await openPool(isolated(level, { limits: { cpu: 0.5, files: 123 } }))
      using lease = await pool.acquire('red')
      expect(await sh(lease, 'ulimit -n')).toMatchObject({ output: '123\n' })
      const own = readFileSync(`/proc/${lease.worker.pid}/cgroup`, 'utf8')
      const { v1, unified } = parseHierarchies(readFileSync('/proc/self/mountinfo', 'utf8'), own)
      const quota = v1.has('cpu')
        ? readFileSync(join(v1.get('cpu')!, 'cpu.cfs_quota_us'), 'utf8')
        : readFileSync(join(unified!, 'cpu.max'), 'utf8').split(' ')[0]
      expect(Number(quota)).toBe(50_000)
    })
  },
)
