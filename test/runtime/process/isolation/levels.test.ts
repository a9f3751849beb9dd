import { chmodSync, existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { fixture, fixtureProcesses } from '../../../_processes.ts'
import { end, isolated, levels, openPool, readLedgers, send, sh, stateDirectory, usesIsolation } from './_isolated.ts'

usesIsolation()

const dead = (events: readonly { type: string }[]) => events.filter(({ type }) => type === 'worker.dead')

test.runIf(process.platform === 'linux')('a program that full hides is told from one that is missing', async () => {
  const directory = stateDirectory()
  chmodSync(directory, 0o755)
  const command = join(directory, 'run')
  writeFileSync(command, '#!/bin/sh\n', { mode: 0o755 })
  const { pool } = await openPool(isolated('full', { command, args: ['{{socket}}'] }))
  await expect(pool.acquire('red')).rejects.toThrow(
    `execvp ${command}: No such file or directory; what lies in a home directory, in /tmp or in another place that is hidden has to be shown`,
  )
})

describe.runIf(process.platform === 'linux').each(levels)('at level %s', (level) => {
  test('what a worker exits with arrives', async () => {
    const { pool } = await openPool(isolated(level))
    const lost = new Promise((resolve) => {
      pool.on('session.lost', resolve)
    })
    using lease = await pool.acquire('red')
    await end(lease, 'code=7')
    expect(await lost).toMatchObject({ reason: 'crashed', exitCode: 7, signal: null })
  })

  test.each(['SIGSEGV', 'SIGKILL', 'SIGABRT'])('%s to itself arrives as such', async (signal) => {
    const { pool } = await openPool(isolated(level))
    const lost = new Promise((resolve) => {
      pool.on('session.lost', resolve)
    })
    using lease = await pool.acquire('red')
    await end(lease, `signal=${signal}`)
    expect(await lost).toMatchObject({ reason: 'crashed', exitCode: null, signal })
  })

  test('a signal that has no name in Node.js arrives as an exit status', async () => {
    const { pool } = await openPool(isolated(level))
    const lost = new Promise((resolve) => {
      pool.on('session.lost', resolve)
    })
    using lease = await pool.acquire('red')
    await sh(lease, 'kill -40 $PPID').catch(() => {})
    const exitCode = level === 'none' || level === 'group' ? 0 : 128 + 40
    expect(await lost).toMatchObject({ reason: 'crashed', exitCode, signal: null })
  })

  test.each(['group', 'leader'] as const)('a polite stop reaches the %s', async (target) => {
    const lines: string[] = []
    const onOutput = (line: string) => lines.push(line)
    const { pool, events } = await openPool(isolated(level, { stop: { target }, onOutput }), {
      size: { min: 1, max: 1 },
    })
    await pool.close()
    expect(lines).toEqual(['asked'])
    expect(dead(events)).toMatchObject([{ exitCode: 0, signal: null }])
  })

  test('nothing of a worker is left, a daemon neither', async () => {
    const { pool } = await openPool(
      isolated(level === 'none' ? 'group' : level, { name: 'forks-children', env: { DAEMONS: '2' } }),
    )
    const lease = await pool.acquire('red')
    lease.release()
    expect(fixtureProcesses().length).toBeGreaterThan(2)
    await pool.close({ force: true })
    expect(fixtureProcesses()).toEqual([])
  })

  test('a worker has a directory of its own, which goes with it', async () => {
    const { pool } = await openPool(isolated(level, { env: { DIRECTORY: '{{dir}}' } }))
    const [red, blue] = await Promise.all([pool.acquire('red'), pool.acquire('blue')])
    const script = 'echo "$DIRECTORY"; touch "$DIRECTORY/file" && stat -c %a "$DIRECTORY"'
    const [ofRed, ofBlue] = await Promise.all([sh(red, script), sh(blue, script)])
    expect([ofRed.output.split('\n')[1], ofBlue.output.split('\n')[1]]).toEqual(['700', '700'])
    const [first = '', second = ''] = [ofRed, ofBlue].map(({ output }) => output.split('\n')[0])
    expect(first).not.toBe(second)
    await pool.end('red')
    await vi.waitUntil(() => !existsSync(first))
    expect(existsSync(join(second, 'file'))).toBe(true)
    await pool.close()
    expect(existsSync(second)).toBe(false)
  })

  test('a command that is not there is told as such', async () => {
    const options = { ...isolated(level), command: 'no-such-command' }
    await expect(openPool(options, { size: { min: 1, max: 1 } })).rejects.toMatchObject({
      code: 'WORKER_START_FAILED',
      message: expect.stringContaining('Cannot start "no-such-command"') as string,
    })
  })
})

describe.runIf(process.platform === 'linux').each(['group', 'namespaces', 'full'] as const)('at level %s', (level) => {
  test('HOME and TMPDIR are in the directory of the worker', async () => {
    const { pool } = await openPool(isolated(level, { args: [...(isolated(level).args ?? []), '{{dir}}'] }))
    using lease = await pool.acquire('red')
    const { output } = await sh(lease, 'touch "$HOME/a" "$TMPDIR/b" && echo "$HOME $TMPDIR"')
    expect(output).toMatch(/^(\S+)\/home \1\/home\/tmp\n$/)
  })

  test('what is given as HOME is HOME', async () => {
    const { pool } = await openPool(isolated(level, { env: { HOME: '/usr' } }))
    using lease = await pool.acquire('red')
    expect(await sh(lease, 'echo $HOME')).toMatchObject({ output: '/usr\n' })
  })

  test('the ledger has a worker while there is one, and nothing else', async () => {
    const directory = stateDirectory()
    const { pool } = await openPool(isolated(level, { stateDirectory: directory }))
    const lease = await pool.acquire('red')
    const [record, ...others] = readLedgers(directory)
    expect(others).toEqual([])
    expect(record?.directory).toContain(directory)
    lease.release()
    await pool.close()
    expect(readLedgers(directory)).toEqual([])
    expect(readdirSync(join(directory, 'w'))).toEqual([])
    expect(record?.cgroups.filter(({ path }) => existsSync(path))).toEqual([])
  })
})

// By its cgroup, or its namespace.
describe.runIf(process.platform === 'linux' && process.geteuid?.() === 0).each(['group', 'namespaces'] as const)(
  'at level %s',
  (level) => {
    test('a worker that listens as a daemon is not taken for a stranger', async () => {
      const { command, args, env } = fixture('echo-server')
      const daemonise = '(setsid "$@" &); exec sleep 1000'
      const options = { command: 'sh', args: ['-c', daemonise, 'sh', command, ...args], env, isolation: level }
      const { pool } = await openPool(options)
      using lease = await pool.acquire('red')
      expect(JSON.parse(await send(lease.worker.address, 'GET', '/'))).toMatchObject({ count: 1 })
    })
  },
)

describe.runIf(process.platform === 'linux').each(['namespaces', 'full'] as const)('at level %s', (level) => {
  test('a worker sees its own processes alone', async () => {
    const { pool } = await openPool(isolated(level))
    using lease = await pool.acquire('red')
    const { output } = await sh(lease, 'ls -d /proc/[0-9]* | wc -l; cat /proc/sys/kernel/random/boot_id >/dev/null')
    expect(Number(output)).toBeLessThan(8)
  })

  test('what it orphans is reaped', async () => {
    const { pool } = await openPool(isolated(level))
    using lease = await pool.acquire('red')
    await sh(lease, '(true & true &) ; (sh -c "true & true &" &)')
    const reaped = 'while grep -qs "^State:.Z" /proc/[0-9]*/status; do :; done; echo reaped'
    expect(await sh(lease, reaped)).toMatchObject({ output: 'reaped\n' })
  })
})
