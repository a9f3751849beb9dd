import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import type { PoolEvent } from 'corral'
import { parseHierarchies } from '../../../../src/runtime/process/cgroup/hierarchies.ts'
import { planDirectories } from '../../../../src/runtime/process/cgroup/limits.ts'
import { isolated, openPool, sh, stateDirectory, usesIsolation } from './_isolated.ts'

usesIsolation()

const MIB = 1024 ** 2
const isRoot = process.geteuid?.() === 0

describe.runIf(process.platform === 'linux' && isRoot).each(['none', 'group', 'full'] as const)(
  'at level %s',
  (level) => {
    test('a worker whose memory is used up is lost for that reason, in events, errors and stats', async () => {
      const limits = { memory: 128 * MIB }
      // The worker itself is what takes the memory.
      const script = 'b = bytearray(64 << 20)\nfor i in range(64): b += bytes(16 << 20)'
      const options = {
        ...isolated(level),
        command: '/usr/bin/python3',
        args: ['-c', hungry(script), '{{socket}}'],
        limits,
      }
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

/** An HTTP server on a unix socket that runs `script` when it is asked for anything but a connection. */
function hungry(script: string): string {
  return [
    'import sys, socket',
    'server = socket.socket(socket.AF_UNIX)',
    'server.bind(sys.argv[1])',
    'server.listen()',
    'while True:',
    '    client = server.accept()[0]',
    '    if client.recv(100):',
    ...script.split('\n').map((line) => `        ${line}`),
  ].join('\n')
}

describe('the plan of a cgroup', () => {
  const v2 = {
    unified: '/cg/unified',
    unifiedControllers: new Set(['memory', 'cpu', 'pids']),
    v1: new Map<string, string>(),
  }

  test('is one directory where everything is unified', () => {
    expect(planDirectories(v2, { memory: 1024, cpu: 1.5, pids: 10 })).toEqual([
      {
        parent: '/cg/unified',
        kind: 'unified',
        settings: [
          { file: 'memory.max', value: '1024' },
          { file: 'memory.swap.max', value: '0', may: 'absent' },
          { file: 'memory.oom.group', value: '1', may: 'absent' },
          { file: 'cpu.max', value: '150000 100000' },
          { file: 'pids.max', value: '13' },
        ],
      },
    ])
  })

  test('takes from v1 what the unified hierarchy lacks, and freezes where that cannot kill', () => {
    const v1 = new Map([
      ['memory', '/cg/memory'],
      ['freezer', '/cg/freezer'],
    ])
    const hybrid = { unified: '/cg/unified', unifiedControllers: new Set(['hugetlb']), v1 }
    expect(planDirectories(hybrid, { memory: 1024 }).map(({ kind, parent }) => [kind, parent])).toEqual([
      ['memory', '/cg/memory'],
      ['unified', '/cg/unified'],
    ])
    const old = { unified: undefined, unifiedControllers: new Set<string>(), v1 }
    expect(planDirectories(old, {}).map(({ kind }) => kind)).toEqual(['freezer'])
  })
})

describe('the hierarchies of a process', () => {
  const mount = (root: string, point: string, type: string, options: string) =>
    `30 20 0:26 ${root} ${point} rw,nosuid shared:9 - ${type} ${type} ${options}`

  test('are told by the type of the mount, and not by the path', () => {
    const plain = mount('/', '/sys/fs/cgroup', 'tmpfs', 'rw')
    expect(parseHierarchies(plain, '0::/\n')).toEqual({ unified: undefined, v1: new Map() })
  })

  test('are those of a hybrid host', () => {
    const mounts = [
      mount('/', '/sys/fs/cgroup/cpu,cpuacct', 'cgroup', 'rw,cpu,cpuacct'),
      mount('/', '/sys/fs/cgroup/my\\040unified', 'cgroup2', 'rw'),
    ].join('\n')
    const { unified, v1 } = parseHierarchies(mounts, '4:cpu,cpuacct:/a/b\n0::/c\n')
    expect(unified).toBe('/sys/fs/cgroup/my unified/c')
    expect(v1.get('cpu')).toBe('/sys/fs/cgroup/cpu,cpuacct/a/b')
  })

  test('are none where a container does not show its own', () => {
    const mounts = mount('/docker/other', '/sys/fs/cgroup', 'cgroup2', 'rw')
    expect(parseHierarchies(mounts, '0::/docker/mine\n').unified).toBeUndefined()
    expect(parseHierarchies(mounts, '0::/docker/other/x\n').unified).toBe('/sys/fs/cgroup/x')
  })
})
