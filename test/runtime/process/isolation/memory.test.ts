import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { createPool, processWorker } from 'corral'
import type { PoolEvent, ProcessWorkerOptions } from 'corral'
import type { ProcessEntry } from '../../../../src/runtime/process/_proc.ts'
import { familyOf } from '../../../../src/runtime/process/memory.ts'
import { VirtualClock } from '../../../support/virtual-clock.ts'
import { isolated, levels, send, sh, usesIsolation } from './_isolated.ts'

usesIsolation()

const MIB = 1024 ** 2
const never = new AbortController().signal
const isRoot = process.geteuid?.() === 0
const isLinux = process.platform === 'linux'

/** `tail` holds a line without an end until that comes. The daemon has a session of its own. */
const eat = (mib: number, wrapper = '') =>
  `${wrapper} sh -c '{ head -c ${mib}M /dev/zero; sleep 1000; } | tail' </dev/null >/dev/null 2>&1 &`

/** A worker that is ready, and how much memory it takes. It is gone at the end of the test. */
async function launch(options: ProcessWorkerOptions) {
  const backend = processWorker(options)
  await backend.open?.()
  onTestFinished(() => backend.close?.())
  const instance = await backend.launch({ workerId: 'w1', signal: never })
  onTestFinished(async () => {
    instance.kill()
    await instance.exited
  })
  await instance.ready(never)
  const worker = { worker: { id: 'w1', pid: instance.pid, address: instance.address } }
  return { instance, worker, memory: () => backend.memoryOf!(instance) }
}

describe.runIf(isLinux && isRoot)('the memory of a worker', () => {
  test.each(levels)('is that of all its processes, at level %s', async (level) => {
    const { worker, memory } = await launch(isolated(level))
    const before = await memory()
    expect(before).toBeGreaterThan(5 * MIB)
    expect(before).toBeLessThan(200 * MIB)
    await sh(worker, eat(200))
    await vi.waitUntil(async () => (await memory()) > before + 190 * MIB, { timeout: 20_000, interval: 50 })
    expect(await memory()).toBeLessThan(before + 300 * MIB)
  })

  test.each(['group', 'namespaces', 'full'] as const)('is also that of its daemons, at level %s', async (level) => {
    const { worker, memory } = await launch(isolated(level))
    const before = await memory()
    await sh(worker, eat(200, 'setsid'))
    await vi.waitUntil(async () => (await memory()) > before + 190 * MIB, { timeout: 20_000, interval: 50 })
  })

  test('is what its cgroup counts when it is limited, without the files that it has read', async () => {
    const { worker, memory } = await launch(isolated('group', { limits: { memory: 1024 * MIB } }))
    const before = await memory()
    expect(before).toBeGreaterThan(5 * MIB)
    await sh(worker, 'head -c 300M /dev/zero > $HOME/file; cat $HOME/file > /dev/null')
    expect(await memory()).toBeLessThan(before + 100 * MIB)
    await sh(worker, eat(200))
    await vi.waitUntil(async () => (await memory()) > before + 190 * MIB, { timeout: 20_000, interval: 50 })
  })

  test('is shared out where several processes have it in common', async () => {
    const fork = `python3 -c 'import os,time
b = bytearray(os.urandom(1)) * (100 << 20)
[os.fork() or time.sleep(1000) for _ in range(4)]
time.sleep(1000)' </dev/null >/dev/null 2>&1 &`
    const { worker, memory } = await launch(isolated('group'))
    const before = await memory()
    await sh(worker, fork)
    await vi.waitUntil(async () => (await memory()) > before + 100 * MIB, { timeout: 20_000, interval: 50 })
    expect(await memory()).toBeLessThan(before + 300 * MIB)
  })

  test('is none when it is gone', async () => {
    const { instance, memory } = await launch(isolated('group'))
    instance.kill()
    await instance.exited
    expect(await memory()).toBe(0)
  })
})

describe.runIf(isLinux)('a pool of processes', () => {
  test('replaces one that has grown too large after its session, and not before', async () => {
    const clock = new VirtualClock()
    const events: PoolEvent[] = []
    const worker = processWorker(isolated('group'))
    let measured = 0
    const measure = worker.memoryOf!.bind(worker)
    worker.memoryOf = async (instance) => (measured = await measure(instance))
    const pool = await createPool({
      worker,
      clock,
      host: false,
      size: { min: 1, max: 1 },
      session: { reuse: 'dirty', idleTtl: false },
      recycle: { memory: 200 * MIB },
      onEvent: (event) => events.push(event),
    })
    onTestFinished(() => pool.close())
    const told = (type: PoolEvent['type']) => events.filter((event) => event.type === type)
    /** The next measurement of the worker, which takes real time. */
    const look = async () => {
      measured = 0
      await clock.advance(10_000)
      await vi.waitUntil(() => measured > 0)
    }
    const lease = await pool.acquire('red')
    const { id, pid } = lease.worker
    await look()
    expect(told('worker.worn')).toEqual([])
    await sh(lease, eat(250))
    while (told('worker.worn').length === 0) await look()
    expect(told('worker.worn')).toEqual([{ type: 'worker.worn', workerId: id, cause: 'memory' }])
    expect(await sh(lease, 'echo still here')).toMatchObject({ output: 'still here\n' })
    lease.release()
    await pool.end('red')
    using next = await pool.acquire('blue')
    expect(next.worker.pid).not.toBe(pid)
    expect(told('worker.dead')).toMatchObject([{ workerId: id, reason: 'stopped', exitCode: 0 }])
    expect(told('session.ended')).toMatchObject([{ sessionId: 'red', reason: 'released' }])
  })

  test('replaces an old one that waits for its first session', async () => {
    const clock = new VirtualClock()
    const events: PoolEvent[] = []
    const pool = await createPool({
      // It takes real time to stop, in which hours pass.
      worker: processWorker({ ...isolated('group'), health: { interval: 0 }, stop: { grace: 3_600_000 } }),
      clock,
      host: false,
      size: { min: 1, max: 1 },
      recycle: { age: 3_600_000 },
      onEvent: (event) => events.push(event),
    })
    onTestFinished(() => pool.close())
    const before = pool.workers()[0]!
    await clock.advance(3_600_000)
    using lease = await pool.acquire('red')
    expect(lease.worker.pid).not.toBe(before.pid)
    expect(await send(lease.worker.address, 'POST', '/', 'echo up')).toContain('up')
    expect(events.find(({ type }) => type === 'worker.worn')).toMatchObject({ workerId: before.id, cause: 'age' })
    expect(events.find(({ type }) => type === 'worker.dead')).toMatchObject({ reason: 'stopped', exitCode: 0 })
  })
})

test('the family of a process are its group, and its descendants in whatever group', () => {
  const entry = (pid: number, parent: number, group: number): ProcessEntry => ({
    pid,
    parent,
    group,
    session: group,
    isZombie: false,
    isStopped: false,
    startTime: 1,
  })
  const table = [
    entry(1, 0, 1),
    entry(10, 1, 10),
    entry(11, 10, 10),
    entry(12, 11, 12),
    entry(13, 1, 10), // Its parent has exited.
    entry(14, 13, 14),
    entry(20, 1, 20),
  ]
  expect(familyOf(10, table).toSorted((a, b) => a - b)).toEqual([10, 11, 12, 13, 14])
  expect(familyOf(99, table)).toEqual([])
})
