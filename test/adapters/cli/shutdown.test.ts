import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import getPort from 'get-port'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { childrenOf } from '../../../src/runtime/process/_proc.ts'
import { root } from '../../_build.ts'
import { fixtureProcesses, leavesNoProcess } from '../../_processes.ts'
import { canFreeze, freeze } from '../../runtime/process/_cgroups.ts'
import { createStoppingNode } from '../../runtime/process/_stopping-node.ts'
import { type Cli, corral, get, getJson, run, urlOf, usesCli, worker } from './_cli.ts'

const isFreezable = await canFreeze()
const main = `${root}dist/adapters/cli/main.js`

usesCli()
leavesNoProcess()

/** Whoever adopts a process may take a while to reap it. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

function parentOf(pid: number): number {
  return Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
}

/** Where what is temporary goes in one test, for it to look at what is left. */
function useTemporary(): string {
  const directory = mkdtempSync(join(tmpdir(), 'shutdown-'))
  vi.stubEnv('TMPDIR', directory)
  onTestFinished(() => {
    vi.unstubAllEnvs()
    rmSync(directory, { recursive: true })
  })
  return directory
}

describe('a signal', () => {
  test('under load loses no response that has begun', async () => {
    const cli = run('echo-server', ['--max', '4', '--grace', '1m', '--admin', '0'])
    const url = await urlOf(cli)
    const admin = String((await cli.line('admin.listening'))['url'])
    expect((await fetch(`${admin}/readyz`)).status).toBe(200)
    const begun = await Promise.all(
      Array.from({ length: 16 }, (_, i) => get(`${url}/sse?count=25&every=20`, `session-${i % 4}`)),
    )
    cli.kill('SIGTERM')
    await cli.line('gateway.stopping')
    // The first byte of every response is here, and none has ended yet: the worker writes for half a second.
    expect((await fetch(`${admin}/readyz`)).status).toBe(503)
    expect((await fetch(`${admin}/healthz`)).status).toBe(200)
    const refused = await getJson(url, 'late').then(
      ({ code }) => code,
      () => 'refused',
    )
    expect(['POOL_DRAINING', 'refused']).toContain(refused)
    const bodies = await Promise.all(begun.map((response) => response.text()))
    expect(bodies.filter((body) => !body.endsWith('data: 25\n\n: bye\n\n'))).toEqual([])
    expect(await cli.exit).toMatchObject({ code: 0, stderr: '' })
    expect(fixtureProcesses()).toEqual([])
  })

  test('between many short requests answers each in full, refuses it, or does not take it', async () => {
    const cli = run('echo-server', ['--max', '3', '--grace', '1m'])
    const url = await urlOf(cli)
    const seen = { served: 0, refused: 0, broken: 0 }
    const client = async (session: string): Promise<void> => {
      for (;;) {
        const response = await get(url, session).catch(() => undefined)
        if (response === undefined) return
        const body = await response.json().catch(() => undefined)
        if (response.status === 200 && body !== undefined) seen.served++
        else if (response.status === 503 && body !== undefined) seen.refused++
        else seen.broken++
        if (seen.served === 200) cli.kill('SIGTERM')
      }
    }
    await Promise.all(Array.from({ length: 24 }, (_, i) => client(`session-${i % 3}`)))
    expect(await cli.exit).toMatchObject({ code: 0, stderr: '' })
    expect(seen.served).toBeGreaterThanOrEqual(200)
    expect(seen.broken).toBe(0)
    expect(fixtureProcesses()).toEqual([])
  })

  test('cuts what is still open when the grace is over', async () => {
    const cli = run('echo-server', ['--grace', '100ms'])
    const endless = await get(`${await urlOf(cli)}/sse`, 'red')
    cli.kill('SIGTERM')
    await expect(endless.text()).rejects.toThrow('terminated')
    expect(await cli.exit).toMatchObject({ code: 0 })
    expect(fixtureProcesses()).toEqual([])
  })

  test('answers what has no answer yet when the grace is over', async () => {
    const cli = run('echo-server', ['--grace', '200ms', '--max', '8', '--tenant-sessions', 'none'])
    const url = await urlOf(cli)
    const ids = Array.from({ length: 8 }, (_, i) => `session-${i}`)
    const hanging = ids.map((id) => get(`${url}/hang`, id))
    for (const sessionId of ids) await cli.line('session.started', { sessionId })
    cli.kill('SIGTERM')
    for (const response of await Promise.all(hanging)) {
      expect(response.status).toBe(502)
      expect(await response.json()).toMatchObject({ code: 'SESSION_ENDED' })
    }
    expect(await cli.exit).toMatchObject({ code: 0, stderr: '' })
  })

  test('a second time stops at once', async () => {
    const cli = run('echo-server', ['--grace', '10m'])
    const endless = await get(`${await urlOf(cli)}/sse`, 'red')
    cli.kill('SIGTERM')
    await cli.line('gateway.stopping')
    await killUntilExit(cli, 'SIGTERM')
    await expect(endless.text()).rejects.toThrow('terminated')
    expect(await cli.exit).toMatchObject({ code: 1 })
    expect((await cli.exit).stdout).toContain('"type":"gateway.cutting"')
    expect(fixtureProcesses()).toEqual([])
  })

  test('a second time does not wait for workers that ignore SIGTERM', async () => {
    const cli = run('ignores-sigterm', ['--grace', '10m', '--health', 'tcp'])
    await urlOf(cli)
    cli.kill('SIGTERM')
    await cli.line('worker.draining')
    await killUntilExit(cli, 'SIGTERM')
    expect(await cli.exit).toMatchObject({ code: 1 })
    expect((await cli.exit).stdout).toContain('"signal":"SIGKILL"')
    expect(fixtureProcesses()).toEqual([])
  })

  describe.runIf(process.platform === 'linux')('while somebody has stopped the spawn helper', () => {
    const warning = 'The spawn helper did not answer, and was killed: somebody has stopped it'

    test.each([
      ['ends', ['--grace', '100ms'], 0],
      ['a second time ends', ['--grace', '1m'], 1],
    ])('%s both all the same, tells of that once, and leaves nothing', async (_, options, code) => {
      const temporary = useTemporary()
      const cli = run('echo-server', options)
      const { pid } = await getJson(await urlOf(cli), 'red')
      const helper = parentOf(pid as number)
      process.kill(helper, 'SIGSTOP')
      cli.kill('SIGTERM')
      await cli.line('gateway.stopping')
      if (code === 1) cli.kill('SIGINT')
      expect(await cli.exit).toMatchObject({ code, stderr: '' })
      const { stdout } = await cli.exit
      expect(stdout.split(warning)).toHaveLength(2)
      expect(stdout).not.toContain('have not ended')
      expect(isRunning(helper)).toBe(false)
      expect(fixtureProcesses()).toEqual([])
      expect(readdirSync(temporary)).toEqual([])
    })

    test('ends both all the same when it has no worker', async () => {
      const temporary = useTemporary()
      const cli = run('echo-server', ['--min', '0'])
      await urlOf(cli)
      const [helper] = childrenOf(cli.child.pid!)
      process.kill(helper!, 'SIGSTOP')
      cli.kill('SIGTERM')
      expect(await cli.exit).toMatchObject({ code: 0, stderr: '' })
      expect((await cli.exit).stdout).toContain(warning)
      expect(isRunning(helper!)).toBe(false)
      expect(readdirSync(temporary)).toEqual([])
    })
  })

  describe.runIf(process.platform === 'linux')('while the spawn helper hangs as it starts', () => {
    function runWithStoppingNode() {
      const node = createStoppingNode()
      const temporary = useTemporary()
      const start = () =>
        run('echo-server', [], ['--import', `data:text/javascript,process.execPath=${JSON.stringify(node.path)}`])
      return { node, temporary, start }
    }

    test('at the start of the gateway ends both at once, with nothing left', async () => {
      const { node, temporary, start } = runWithStoppingNode()
      node.stop()
      const cli = start()
      const helper = await node.stopped()
      cli.kill('SIGTERM')
      expect(await cli.exit).toMatchObject({ code: 0, stderr: '' })
      expect((await cli.exit).stdout).toContain('"type":"gateway.stopped"')
      expect(isRunning(helper)).toBe(false)
      expect(readdirSync(temporary)).toEqual([])
    })

    test('in the place of one that was killed ends both at once, with nothing left', async () => {
      const { node, temporary, start } = runWithStoppingNode()
      const cli = start()
      const { pid } = await getJson(await urlOf(cli), 'red')
      node.stop()
      process.kill(parentOf(pid as number), 'SIGKILL')
      const helper = await node.stopped()
      cli.kill('SIGTERM')
      expect(await cli.exit).toMatchObject({ code: 0, stderr: '' })
      expect(isRunning(helper)).toBe(false)
      expect(readdirSync(temporary)).toEqual([])
      expect(fixtureProcesses()).toEqual([])
    })
  })

  describe.runIf(isFreezable)('with a worker that SIGKILL does not end', () => {
    test('ends all the same, tells which processes are left, and fails', async () => {
      const cli = run('echo-server', ['--grace', '100ms'])
      const { pid } = await getJson(await urlOf(cli), 'red')
      const thaw = await freeze(pid as number)
      cli.kill('SIGTERM')
      expect(await cli.exit).toMatchObject({ code: 1, stderr: '' })
      const { stdout } = await cli.exit
      expect(stdout).toContain(`Processes ${String(pid)} of worker w1 could not be killed; the next start tries again`)
      expect(stdout).toContain(`Processes ${String(pid)} of workers have not ended, though they were killed`)
      thaw()
      await vi.waitUntil(() => fixtureProcesses().length === 0, { timeout: 10_000 })
    }, 60_000)

    test('ends sooner when it comes a second time, and tells them, too', async () => {
      const cli = run('echo-server', ['--grace', '1m', '--isolation', 'none'])
      const { pid } = await getJson(await urlOf(cli), 'red')
      const thaw = await freeze(pid as number)
      cli.kill('SIGTERM')
      await cli.line('worker.draining')
      cli.kill('SIGINT')
      expect(await cli.exit).toMatchObject({ code: 1, stderr: '' })
      const { stdout } = await cli.exit
      expect(stdout).toContain(`Processes ${String(pid)} of workers have not ended, though they were killed`)
      thaw()
      await vi.waitUntil(() => fixtureProcesses().length === 0, { timeout: 10_000 })
    }, 60_000)
  })

  test.runIf(isFreezable)('a second time does not wait for a start that SIGKILL does not end, either', async () => {
    const cli = run('never-ready', ['--isolation', 'group'])
    await vi.waitUntil(() => fixtureProcesses().length === 1, { timeout: 10_000 })
    const thaw = await freeze(fixtureProcesses()[0]!)
    cli.kill('SIGTERM')
    await cli.line('worker.draining')
    const exit = once(cli.child, 'exit')
    cli.kill('SIGINT')
    // The helper still waits for it, and keeps the stderr of the gateway open.
    expect(await exit).toEqual([1, null])
    thaw()
    // As is told when it has been given up.
    expect((await cli.exit).stdout).not.toContain('could not be killed')
    await vi.waitUntil(() => fixtureProcesses().length === 0, { timeout: 10_000 })
  })

  test('that a parent passes on a second time counts once', async () => {
    const cli = run('echo-server', ['--grace', '1m'])
    const begun = await get(`${await urlOf(cli)}/sse?count=10&every=20`, 'red')
    cli.kill('SIGINT')
    await cli.line('gateway.stopping')
    cli.kill('SIGINT')
    expect(await begun.text()).toMatch(/: bye\n\n$/)
    expect(await cli.exit).toMatchObject({ code: 0 })
  })

  test('of another kind is nobody’s copy, and stops at once', async () => {
    const cli = run('echo-server', ['--grace', '10m'])
    const endless = await get(`${await urlOf(cli)}/sse`, 'red')
    cli.kill('SIGINT')
    await cli.line('gateway.stopping')
    cli.kill('SIGTERM')
    await expect(endless.text()).rejects.toThrow('terminated')
    expect(await cli.exit).toMatchObject({ code: 1 })
    expect(await cli.line('gateway.cutting')).toMatchObject({ signal: 'SIGTERM' })
    expect(fixtureProcesses()).toEqual([])
  })

  test.each(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const)('%s leaves no process behind', async (signal) => {
    const cli = run('forks-children', ['--health', 'tcp', '--grace', '0'])
    await get(await urlOf(cli), 'red')
    cli.kill(signal)
    expect(await cli.exit).toMatchObject({ code: 0 })
    expect(fixtureProcesses()).toEqual([])
  })

  test('for the debugger opens none, and stops nothing', async () => {
    const cli = run('echo-server')
    await cli.line('worker.spawning')
    cli.kill('SIGUSR1')
    const url = await urlOf(cli)
    cli.kill('SIGUSR1')
    expect((await get(`${url}/`, 'red')).status).toBe(200)
    cli.kill('SIGTERM')
    expect(await cli.exit).toMatchObject({ code: 0, stderr: '' })
  })

  test('while the workers start gives up and leaves no process', async () => {
    const cli = run('never-ready', ['--admin', '0'])
    const admin = String((await cli.line('admin.listening'))['url'])
    expect((await fetch(`${admin}/readyz`)).status).toBe(503)
    expect((await fetch(`${admin}/stats`)).status).toBe(503)
    cli.kill('SIGTERM')
    expect(await cli.exit).toMatchObject({ code: 0 })
    expect(fixtureProcesses()).toEqual([])
  })

  test('a second time kills the workers that are still starting', async () => {
    const state = mkdtempSync(join(tmpdir(), 'state-'))
    onTestFinished(() => rmSync(state, { recursive: true }))
    const options = ['--grace', '10m', '--start-timeout', '10m', '--state-dir', state, '--verbose']
    const deaf = ['sh', '-c', 'trap "" TERM; echo deaf; while :; do sleep 1; done']
    const cli = corral(['run', '--port', '0', '--json', ...options, ...worker('never-ready').slice(0, -2), ...deaf])
    await cli.line('worker.output', { line: 'deaf' })
    cli.kill('SIGTERM')
    await cli.line('worker.draining')
    await killUntilExit(cli, 'SIGTERM')
    expect(await cli.exit).toMatchObject({ code: 1 })
    expect((await cli.exit).stdout).toContain('"signal":"SIGKILL"')
    expect(readdirSync(join(state, 'own'))).toEqual(['ledger'])
    expect(fixtureProcesses()).toEqual([])
  })

  test('is not needed when nobody reads the output any more', async () => {
    const cli = run('echo-server')
    const url = await urlOf(cli)
    cli.child.stdout?.destroy()
    // Has something to print now, and may end before it has answered.
    await get(url, 'red').catch(() => {})
    expect(await cli.exit).toMatchObject({ code: 0 })
    expect(fixtureProcesses()).toEqual([])
  })

  test.runIf(process.platform === 'linux')(
    'comes from a terminal that goes away, and the exit status is 0',
    async () => {
      const directory = mkdtempSync(join(tmpdir(), 'terminal-'))
      onTestFinished(() => rmSync(directory, { recursive: true }))
      const [log, status] = [join(directory, 'log'), join(directory, 'status')]
      const quoted = [process.execPath, main, 'run', '--port', '0', ...worker('echo-server')].map((part) => `'${part}'`)
      // The kernel tells the shell alone, which stays to hear of the status.
      const command = `exec 3<&0; ${quoted.join(' ')} <&3 >${log} 2>&1 & trap "kill -HUP $!" HUP; wait $!; wait $!; echo $? >${status}`
      const terminal = spawn('script', ['-qc', command, '/dev/null'], {
        cwd: root,
        stdio: ['pipe', 'ignore', 'inherit'],
      })
      await vi.waitUntil(() => existsSync(log) && readFileSync(log, 'utf8').includes('gateway listening'), {
        timeout: 20_000,
      })
      terminal.kill('SIGKILL')
      await vi.waitUntil(() => existsSync(status) && readFileSync(status, 'utf8') !== '', { timeout: 20_000 })
      expect(readFileSync(log, 'utf8')).toMatch(/SIGHUP: no new sessions[^]*gateway stopped\n$/)
      expect(readFileSync(status, 'utf8')).toBe('0\n')
      expect(fixtureProcesses()).toEqual([])
    },
  )

  test.runIf(process.platform === 'linux')(
    'is needed all the same when the disk is full that the output goes to',
    async () => {
      const port = await getPort()
      const full = openSync('/dev/full', 'w')
      const args = [main, 'run', '--access-log', '--port', String(port), ...worker('echo-server')]
      const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', full, 'pipe'] })
      closeSync(full)
      onTestFinished(() => void child.kill('SIGKILL'))
      const [stderr, exit] = [text(child.stderr!), once(child, 'exit')]
      const url = `http://127.0.0.1:${port}`
      await vi.waitUntil(
        () =>
          get(url, 'red').then(
            (response) => response.ok,
            () => false,
          ),
        { timeout: 20_000 },
      )
      // The same process, though every line of it was lost.
      expect(await getJson(url, 'red')).toMatchObject({ count: expect.any(Number) })
      child.kill('SIGTERM')
      expect(await exit).toEqual([0, null])
      expect(await stderr).toMatch(/^corral: Cannot write the output, lines of it are lost: ENOSPC[^\n]*\n$/)
      expect(fixtureProcesses()).toEqual([])
    },
  )
})

describe('a reader of the output', () => {
  const requests = 100

  /** The gateway, when it is to end and more waits than a pipe holds. Nobody reads it yet. */
  async function runUnread() {
    const port = await getPort()
    const args = [main, 'run', '--json', '--access-log', '--port', String(port), ...worker('echo-server')]
    const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
    onTestFinished(() => void child.kill('SIGKILL'))
    const [stderr, exit] = [text(child.stderr), once(child, 'exit')]
    const url = `http://127.0.0.1:${port}`
    await vi.waitUntil(() => fetch(url).catch(() => undefined), { timeout: 20_000 })
    for (let sent = 0; sent < requests; sent++) await getJson(`${url}/${'x'.repeat(8 * 1024)}`, 'red')
    child.kill('SIGTERM')
    await vi.waitUntil(() => fixtureProcesses().length === 0, { timeout: 10_000 })
    return { child, stderr, exit }
  }

  test('that begins late gets every line, and the last one last', async () => {
    const { child, stderr, exit } = await runUnread()
    await Promise.race([exit, sleep(300)])
    const lines = (await text(child.stdout)).split('\n')
    expect(lines.filter((line) => line.includes('"target":"/xx'))).toHaveLength(requests)
    expect(lines.slice(-2)).toEqual([expect.stringContaining('"gateway.stopped"'), ''])
    expect(await exit).toEqual([0, null])
    expect(await stderr).toBe('')
  })

  test('that has stopped is not waited for after a second signal, and what it did not take is told', async () => {
    const { child, stderr, exit } = await runUnread()
    child.kill('SIGINT')
    expect(await exit).toEqual([1, null])
    expect(await stderr).toMatch(
      /^corral: The reader of the output took too little: the last \d{6} bytes of it are lost\n$/,
    )
  })
})

describe('the admin listener', () => {
  test('shows what the pool holds, and is out of reach for sessions', async () => {
    const cli = run('echo-server', ['--admin', '127.0.0.1:0', '--max', '3'])
    const url = await urlOf(cli)
    const admin = String((await cli.line('admin.listening'))['url'])
    await getJson(url, 'red')
    const stats = await fetch(`${admin}/stats`)
    expect(await stats.json()).toMatchObject({
      state: 'running',
      size: { min: 1, max: 3, warm: 0 },
      sessions: { active: 0, idle: 1 },
      totals: { sessionsStarted: 1, sessionsLost: 0 },
    })
    expect((await fetch(`${admin}/nothing`)).status).toBe(404)
    expect(await getJson(`${url}/stats`, 'red')).toMatchObject({ url: '/stats' })
    cli.kill('SIGTERM')
    expect(await cli.exit).toMatchObject({ code: 0, stderr: '' })
  })
})

/** Signals that follow the first within a moment are taken for its copies. */
async function killUntilExit(cli: Cli, signal: NodeJS.Signals): Promise<void> {
  const timer = setInterval(() => cli.kill(signal), 50)
  await cli.exit.finally(() => clearInterval(timer))
}
