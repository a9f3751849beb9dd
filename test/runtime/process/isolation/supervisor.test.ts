import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { OutputSource } from 'corral'
import { fixture, fixtureMark, fixtureProcesses } from '../../../_processes.ts'
import { writeRecord } from '../_records.ts'
import { isolated, openPool, readLedgers, stateDirectory, usesIsolation } from './_isolated.ts'

usesIsolation()

const script = fileURLToPath(new URL('../../../fixtures/supervisor.mjs', import.meta.url))
const SWEEP = { timeout: 15_000 }

/** Milliseconds from the start of a supervisor to its death: while it probes, makes places, starts and serves. */
const MOMENTS = [60, 120, 200, 300, 450, 700, 1_200]

/** A supervisor whose workers have children, and daemons that left their group. */
function spawnSupervisor(level: 'group' | 'namespaces' | 'full', directory: string) {
  const options = isolated(level, { name: 'forks-children', env: { DAEMONS: '2' }, stateDirectory: directory })
  const supervisor = spawn(process.execPath, [script, JSON.stringify({ ...options, sessions: 2 })], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  })
  onTestFinished(() => void supervisor.kill('SIGKILL'))
  return supervisor
}

/** The same, once it has sessions. */
async function startSupervisor(level: 'group' | 'namespaces' | 'full', directory: string): Promise<ChildProcess> {
  const supervisor = spawnSupervisor(level, directory)
  await once(createInterface(supervisor.stdout), 'line')
  return supervisor
}

function helperOf(supervisor: ChildProcess): number {
  const children = readFileSync(`/proc/${supervisor.pid}/task/${supervisor.pid}/children`, 'utf8').trim().split(' ')
  const helper = children
    .map(Number)
    .find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('corral-spawn'))
  if (helper === undefined) throw new Error(`no helper among ${children.join(', ')}`)
  return helper
}

function rightsOf(path: string) {
  const { mode, uid, gid } = statSync(path)
  return { mode, uid, gid }
}

const leftIn = (directory: string) => readdirSync(join(directory, 'w'))

describe.runIf(process.platform === 'linux').each(['group', 'namespaces', 'full'] as const)('at level %s', (level) => {
  test('a supervisor that is killed leaves no process, cgroup, socket or directory', async () => {
    const directory = stateDirectory()
    const supervisor = await startSupervisor(level, directory)
    const cgroups = readLedgers(directory).flatMap((record) => record.cgroups)
    expect(fixtureProcesses().length).toBeGreaterThan(8)
    supervisor.kill('SIGKILL')
    await vi.waitUntil(() => fixtureProcesses().length === 0, SWEEP)
    await vi.waitUntil(() => leftIn(directory).length === 0 && readLedgers(directory).length === 0, SWEEP)
    expect(cgroups.filter(({ path }) => existsSync(path))).toEqual([])
  })

  test('nor does one that is killed at whatever moment', async () => {
    const directory = stateDirectory()
    for (const moment of MOMENTS) {
      const supervisor = spawnSupervisor(level, directory)
      await Promise.race([delay(moment), once(createInterface(supervisor.stdout), 'line')])
      supervisor.kill('SIGKILL')
      await once(supervisor, 'exit')
    }
    await vi.waitUntil(() => fixtureProcesses().length === 0, SWEEP)
    // What was under way when a helper had not yet started is for the next start to remove.
    const { pool } = await openPool(isolated(level, { stateDirectory: directory }))
    expect([leftIn(directory), readLedgers(directory)]).toEqual([[], []])
    await pool.close()
  }, 60_000)

  test('what a supervisor and its helper leave that are killed together is gone after the next start', async () => {
    const directory = stateDirectory()
    const supervisor = await startSupervisor(level, directory)
    const cgroups = readLedgers(directory).flatMap((record) => record.cgroups)
    const helper = helperOf(supervisor)
    process.kill(helper, 'SIGSTOP') // Or it would notice the death of its parent first.
    supervisor.kill('SIGKILL')
    await once(supervisor, 'exit')
    process.kill(helper, 'SIGKILL')
    const { pool } = await openPool(isolated(level, { stateDirectory: directory }))
    expect(fixtureProcesses()).toEqual([])
    expect([leftIn(directory), readLedgers(directory)]).toEqual([[], []])
    expect(cgroups.filter(({ path }) => existsSync(path))).toEqual([])
    await pool.close()
    expect(readdirSync(join(directory, 'own'))).toEqual(['ledger'])
  })

  test('a helper that is killed costs its sessions, and another one takes over', async () => {
    const directory = stateDirectory()
    const { pool, events } = await openPool(isolated(level, { stateDirectory: directory }), {
      size: { min: 1, max: 2 },
    })
    using lease = await pool.acquire('red')
    const before = lease.worker.pid
    const record = readLedgers(directory).find(({ process: leader }) => leader?.pid === before)
    const { PPid } = Object.fromEntries(
      readFileSync(`/proc/${before}/status`, 'utf8')
        .split('\n')
        .map((line) => line.split(/:\s+/)),
    ) as { PPid: string }
    process.kill(Number(PPid), 'SIGKILL')
    await vi.waitUntil(() => events.some(({ type }) => type === 'session.lost'), SWEEP)
    expect(record?.cgroups.filter(({ path }) => existsSync(path))).toEqual([])
    using next = await pool.acquire('red')
    expect(next.worker.pid).not.toBe(before)
  })
})

describe.runIf(process.platform === 'linux')('a state directory', () => {
  test('is for one supervisor at a time', async () => {
    const directory = stateDirectory()
    const { pool } = await openPool(isolated('group', { stateDirectory: directory }))
    await expect(openPool(isolated('group', { stateDirectory: directory }))).rejects.toMatchObject({
      code: 'STATE_DIRECTORY_IN_USE',
      message: expect.stringContaining(`process ${process.pid}`) as string,
    })
    await pool.close()
    const { pool: next } = await openPool(isolated('group', { stateDirectory: directory }))
    await next.close()
  })

  test.each([
    ['the socket for the output of workers', ['own/out.*']],
    ["what is the gateway's own", ['own']],
    ['everything but its lock', ['own', 'w']],
    ['everything in it', ['own', 'w', 'lock.1']],
    ['itself', ['.']],
  ])('from which somebody has removed %s is put in order by the next start', async (_what, removed) => {
    const directory = join(stateDirectory(), 'state')
    const told: string[] = []
    const { command, args, env } = fixture('runs-commands')
    const onOutput = (line: string, { pid }: OutputSource) => void told.push(`${pid} ${line}`)
    const { pool } = await openPool({ command, args, env, stateDirectory: directory, onOutput })
    const first = await pool.acquire('red')
    const output = readdirSync(join(directory, 'own')).find((name) => name.startsWith('out.')) ?? ''
    const rights = () => ['own', `own/${output}`, 'w', 'lock.1'].map((name) => rightsOf(join(directory, name)))
    const before = rights()
    for (const name of removed) rmSync(join(directory, name.replace('out.*', output)), { recursive: true })
    const others = await Promise.all(['blue', 'green'].map((session) => pool.acquire(session)))
    expect(rights()).toEqual(before)
    const pids = [first, ...others].map(({ worker }) => worker.pid)
    for (const lease of [first, ...others]) lease.release()
    await pool.close()
    // Those of workers that ran meanwhile, too.
    expect(told.toSorted()).toEqual(pids.map((pid) => `${pid} asked`).toSorted())
    expect([leftIn(directory), readdirSync(join(directory, 'own'))]).toEqual([[], ['ledger']])
    const { pool: next } = await openPool({ command, args, env, stateDirectory: directory })
    await next.close()
  })

  test('from which somebody has cleared out everything but the sockets is put in order by the next start', async () => {
    const directory = stateDirectory()
    const { pool } = await openPool(isolated('group', { stateDirectory: directory }), { size: { min: 1, max: 3 } })
    using lease = await pool.acquire('red')
    const recorded = () => readLedgers(directory).map(({ process: leader }) => leader?.pid)
    await vi.waitUntil(() => recorded().includes(lease.worker.pid))
    rmSync(join(directory, 'own', 'ledger'), { recursive: true })
    for (const name of readdirSync(directory)) if (name.startsWith('lock.')) rmSync(join(directory, name))
    using other = await pool.acquire('blue')
    await vi.waitUntil(() => [lease, other].every(({ worker }) => recorded().includes(worker.pid)))
    await expect(openPool(isolated('group', { stateDirectory: directory }))).rejects.toMatchObject({
      code: 'STATE_DIRECTORY_IN_USE',
    })
    await pool.close()
    expect([leftIn(directory), readLedgers(directory)]).toEqual([[], []])
  })

  test.runIf(process.geteuid?.() === 0)('in whose place another user has made one gets no worker', async () => {
    const directory = stateDirectory()
    const { pool } = await openPool(isolated('group', { stateDirectory: directory }), { size: { min: 0, max: 1 } })
    chownSync(directory, 65_534, 65_534)
    await expect(pool.acquire('red')).rejects.toMatchObject({
      code: 'WORKER_START_FAILED',
      message: expect.stringContaining(`${directory} of user 65534`) as string,
    })
    chownSync(directory, 0, 0)
    await pool.close()
  })

  test('that others may write to is refused', async () => {
    const directory = join(stateDirectory(), 'open')
    mkdirSync(directory)
    chmodSync(directory, 0o777)
    await expect(openPool(isolated('group', { stateDirectory: directory }))).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      option: 'stateDirectory',
    })
  })

  test('that holds something else is refused, and left as it is', async () => {
    const directory = stateDirectory()
    chmodSync(directory, 0o755)
    writeFileSync(join(directory, 'letter'), 'dear')
    await expect(openPool(isolated('group', { stateDirectory: directory }))).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('with letter in it') as string,
    })
    expect(readdirSync(directory)).toEqual(['letter'])
    expect(statSync(directory).mode & 0o777).toBe(0o755)
  })

  test.each(['/proc/nowhere/state', '/dev/null', '/dev/null/state'])(
    'that cannot be made is refused: %s',
    async (path) => {
      await expect(openPool(isolated('group', { stateDirectory: path }))).rejects.toMatchObject({
        code: 'INVALID_OPTION',
        option: 'stateDirectory',
      })
    },
  )

  test('that lies in directories that are not there is made with them', async () => {
    const directory = join(stateDirectory(), 'some', 'where')
    const { pool } = await openPool(isolated('group', { stateDirectory: directory }))
    await pool.close()
    expect(readdirSync(directory)).toContain('own')
  })

  test.runIf(process.geteuid?.() === 0)(
    'in which something cannot be removed is opened all the same, warns, and keeps what is written of it',
    async () => {
      const directory = stateDirectory()
      const [kept, gone] = ['w1-00000000', 'w2-00000000'].map((name) => writeRecord(directory, name))
      const mounted = join(kept!.directory, 'mounted')
      mkdirSync(mounted, { recursive: true })
      mkdirSync(gone!.directory)
      execFileSync('mount', ['-t', 'tmpfs', 'none', mounted])
      for (const session of ['first', 'second']) {
        const warned = once(process, 'warning')
        const { pool } = await openPool(isolated('group', { stateDirectory: directory }))
        const message = expect.stringContaining(`${kept!.directory}" could not be removed`) as string
        expect(await warned).toMatchObject([{ name: 'CorralWarning', message }])
        const lease = await pool.acquire(session)
        lease.release()
        await pool.close()
        expect(leftIn(directory)).toEqual([expect.stringContaining('w1-00000000')])
        expect(readLedgers(directory)).toMatchObject([{ name: 'w1-00000000' }])
      }
      execFileSync('umount', [mounted])
    },
  )

  test.runIf(process.geteuid?.() === 0)(
    'keeps what is written of a worker until its directory is removed',
    async () => {
      const directory = stateDirectory()
      const { pool } = await openPool(isolated('group', { stateDirectory: directory }), { size: { min: 0, max: 1 } })
      const lease = await pool.acquire('red')
      const [record] = readLedgers(directory)
      if (record === undefined) throw new Error('nothing is written down')
      const mounted = join(record.directory, 'home', 'mounted')
      mkdirSync(mounted)
      execFileSync('mount', ['-t', 'tmpfs', 'none', mounted])
      const warned = once(process, 'warning')
      lease.release()
      await pool.close()
      for (const name of readdirSync(record.directory))
        execFileSync('umount', [join(record.directory, name, 'mounted')])
      const message = expect.stringMatching(/\(EBUSY\); the next start tries again$/) as string
      expect(await warned).toMatchObject([{ name: 'CorralWarning', message }])
      expect(readLedgers(directory)).toMatchObject([{ name: record.name }])
      const { pool: next } = await openPool(isolated('group', { stateDirectory: directory }))
      expect([leftIn(directory), readLedgers(directory)]).toEqual([[], []])
      await next.close()
    },
  )

  test('whose ledger names an id that is another process by now costs that process nothing', async () => {
    const directory = stateDirectory()
    const bystander = spawn('sleep', ['1000'], { detached: true, env: { ...process.env, ...fixtureMark } })
    onTestFinished(() => void bystander.kill('SIGKILL'))
    const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    writeRecord(directory, 'w1-00000000', { bootId, process: { pid: bystander.pid, startTime: 1, bootId } })
    // Of a supervisor that died while it wrote.
    writeFileSync(join(directory, 'own', 'ledger', '0.w2-00000000.json.draft'), '{ "name": "w2-0", "dire')
    const { pool } = await openPool(isolated('group', { stateDirectory: directory }))
    expect(readdirSync(join(directory, 'own', 'ledger'))).toEqual([])
    expect(bystander.exitCode ?? bystander.signalCode).toBeNull()
    expect(process.kill(bystander.pid!, 0)).toBe(true)
    await pool.close()
    bystander.kill('SIGKILL')
    await once(bystander, 'exit')
  })
})
