import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, onTestFinished, test } from 'vitest'
import { flags } from '../../../src/adapters/cli/flags.ts'
import { root } from '../../_build.ts'
import { fixtureProcesses, leavesNoProcess } from '../../_processes.ts'
import { type Cli, corral, get, getJson, run, urlOf, usesCli, worker } from './_cli.ts'

const main = `${root}dist/adapters/cli/main.js`

usesCli()
leavesNoProcess()

describe('corral', () => {
  test('--help names every command and every option, with its default', async () => {
    const [top, help] = await Promise.all([corral(['--help']).exit, corral(['run', '--help']).exit])
    expect({ code: top.code, stderr: top.stderr }).toEqual({ code: 0, stderr: '' })
    expect(top.stdout).toContain('run')
    expect({ code: help.code, stderr: help.stderr }).toEqual({ code: 0, stderr: '' })
    const wanted = flags.flatMap(({ name, default: value = '' }) => [`--${name}`, value])
    expect(wanted.filter((part) => !help.stdout.includes(part))).toEqual([])
    expect(help.stdout).toContain('corral run [OPTIONS] -- <COMMAND> [ARGS…]')
  })

  test('leaves --help and --version behind "--" to the worker', async () => {
    const exit = await corral(['run', '--port', '0', '--', process.execPath, '--version']).exit
    expect(exit.code).toBe(1)
    expect(exit.stderr).toContain(process.version)
  })

  test('--version prints the version of the package', async () => {
    const { default: manifest } = (await import(`${root}package.json`, { with: { type: 'json' } })) as {
      default: { version: string }
    }
    expect(await corral(['--version']).exit).toMatchObject({ code: 0, stdout: `${manifest.version}\n` })
  })

  test.each([
    [[], 'A command is missing'],
    [['serve'], 'Unknown command "serve"'],
    [['run'], 'The command of the workers is missing'],
    [['run', '--prot', '1', '--', 'node'], "Unknown option '--prot'"],
    [['run', '--min', '3', '--max', '2', '--', 'node'], '--min: expected a number not above --max, got 3'],
    [['run', '--session', 'header:a b', '--', 'node'], '--session: expected'],
    [['run', '--session', 'path:/a/../b', '--', 'node'], '--session: expected a plain path'],
    [['run', '--', 'node', '{{prot}}'], "Argument 1 of the workers' command: expected only the placeholders"],
    [['run', '--env', 'A={{b}}', '--', 'node'], '--env A: expected only the placeholders'],
  ])('%j exits 2 with one message and says where the help is', async (args, message) => {
    const { code, stdout, stderr } = await corral(args).exit
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain(`corral: ${message}`)
    expect(stderr.trimEnd().split('\n').at(-1)).toMatch(/^See corral (run )?--help$/)
    expect(stderr).not.toContain('    at ')
  })
})

describe('corral run', () => {
  test('gives every session a process of its own and tells what happens, an object a line', async () => {
    const cli = run('echo-server')
    const url = await urlOf(cli)
    const red = await getJson(url, 'red')
    const blue = await getJson(url, 'blue')
    const again = await getJson(url, 'red')
    expect(again).toMatchObject({ pid: red['pid'], count: 2 })
    expect(blue).toMatchObject({ count: 1 })
    expect(blue['pid']).not.toBe(red['pid'])
    process.kill(Number(red['pid']), 'SIGKILL')
    const lost = await cli.line('session.lost', { sessionId: 'red' })
    expect(lost).toMatchObject({ reason: 'crashed', signal: 'SIGKILL', error: { code: 'SESSION_LOST' } })
    expect(await getJson(url, 'blue')).toMatchObject({ pid: blue['pid'], count: 2 })
    expect(await getJson(url, 'red')).toMatchObject({ count: 1 })
    cli.kill('SIGTERM')
    const { code, stdout, stderr } = await cli.exit
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const lines = stdout.trimEnd().split('\n')
    const types = lines.map((line) => (JSON.parse(line) as { type: string; time: string }).type)
    expect(types.slice(0, 3)).toEqual(['worker.spawning', 'worker.ready', 'pool.running'])
    expect(types.at(-1)).toBe('gateway.stopped')
    expect(new Set(types)).toEqual(
      new Set([
        'pool.running',
        'gateway.listening',
        'session.started',
        'session.lost',
        'session.ended',
        'worker.spawning',
        'worker.ready',
        'worker.crashed',
        'worker.restarting',
        'worker.draining',
        'worker.dead',
        'gateway.stopping',
        'pool.draining',
        'pool.stopped',
        'gateway.stopped',
      ]),
    )
    expect(fixtureProcesses()).toEqual([])
  })

  test('prints lines to read without --json', async () => {
    const cli = corral(['run', '--port', '0', ...worker('echo-server')])
    const [, url = ''] = /gateway listening on (\S+)/.exec(await cli.text('gateway listening on')) ?? []
    await getJson(url, 'red')
    expect(await cli.text('session "red" started')).toContain('session "red" started on w1')
    cli.kill('SIGINT')
    expect(await cli.text('SIGINT')).toContain('SIGINT: no new sessions, open connections get 5s')
    expect(await cli.exit).toMatchObject({ code: 0, stderr: '' })
  })

  test('--verbose prints what the workers write', async () => {
    const cli = run('echo-server', ['--verbose'])
    const url = await urlOf(cli)
    await getJson(`${url}/print?line=hello`, 'red')
    expect(await cli.line('worker.output', { line: 'hello' })).toMatchObject({ stream: 'stdout' })
    await stop(cli)
  })

  test('tells of what workers did wrong, and only with --verbose of what clients did', async () => {
    for (const flags of [[], ['--verbose']]) {
      const cli = run('echo-server', ['--response-timeout', '50ms', ...flags])
      const url = await urlOf(cli)
      expect((await get(url, 'no id')).status).toBe(400)
      expect((await get(`${url}/hang`, 'red')).status).toBe(504)
      const told = await cli.line('request.failed')
      if (flags.length > 0) expect(told).toMatchObject({ code: 'SESSION_ID_INVALID', status: 400 })
      else expect(told).toMatchObject({ code: 'UPSTREAM_TIMEOUT', status: 504, method: 'GET', sessionId: 'red' })
      await stop(cli)
    }
  })

  test('keeps idle connections for --keep-alive, and waits for a worker for --response-timeout', async () => {
    const cli = run('echo-server', ['--keep-alive', '90s', '--response-timeout', '50ms'])
    const url = await urlOf(cli)
    const response = await get(url, 'red')
    expect(response.headers.get('keep-alive')).toBe('timeout=90')
    const late = await get(`${url}/hang`, 'red')
    expect(late.status).toBe(504)
    expect(await late.json()).toMatchObject({ code: 'UPSTREAM_TIMEOUT' })
    await stop(cli)
  })

  test.runIf(process.platform === 'linux')(
    'tells of what is not to be had, with --degrade, as of everything else',
    async () => {
      const cli = run('echo-server', ['--files', '1', '--degrade'])
      expect((await cli.line('warning'))['message']).toMatch(/^--files is not to be had .* going on without$/)
      await urlOf(cli)
      cli.kill('SIGTERM')
      expect(await cli.exit).toMatchObject({ code: 0, stderr: '' })
    },
  )

  test('finds the session where --session says, in order', async () => {
    const cli = run('echo-server', ['--session', 'cookie:sid', '--session', 'query:sid', '--session', 'path'])
    const url = await urlOf(cli)
    const byCookie = await fetch(url, { headers: { cookie: 'sid=red' } })
    const byQuery = await fetch(`${url}/?sid=red`)
    const byPath = await fetch(`${url}/s/red/page`)
    const worker = ((await byCookie.json()) as { pid: number }).pid
    expect(await byQuery.json()).toMatchObject({ pid: worker, count: 2 })
    expect(await byPath.json()).toMatchObject({ pid: worker, count: 3, url: '/page' })
    expect((await fetch(url, { headers: { 'x-session-id': 'red' } })).status).toBe(400)
    await stop(cli)
  })

  test('gives the workers --env and not its own environment', async () => {
    const cli = run('echo-server', ['--env', 'COLOR=red', '--env', 'VITEST'])
    const env = await getJson(`${await urlOf(cli)}/env`, 'red')
    expect(env).toMatchObject({ COLOR: 'red', VITEST: 'true' })
    expect(env).not.toHaveProperty('NODE_ENV')
    await stop(cli)
  })

  test.each([
    ['off', [], false],
    ['dirty', ['--reuse', 'dirty'], true],
    ['reset', ['--reuse', 'reset', '--reset-path', '/reset'], true],
  ])('--reuse %s decides whether the next session gets the same process', async (mode, options, same) => {
    const cli = run('echo-server', ['--max', '1', '--ttl', '0', ...options])
    const url = await urlOf(cli)
    const red = await getJson(url, 'red')
    await cli.line('session.ended', { sessionId: 'red' })
    const blue = await getJson(url, 'blue')
    expect(blue['pid'] === red['pid']).toBe(same)
    expect(blue['count']).toBe(mode === 'dirty' ? 2 : 1)
    await stop(cli)
  })

  test('warns of a worker that cannot be reset', async () => {
    const reset = ['--max', '1', '--ttl', '0', '--reuse', 'reset', '--reset-path', '/reset', '--env', 'FAIL_RESET=1']
    const cli = corral(['run', '--port', '0', ...reset, ...worker('echo-server')])
    const [, url = ''] = /gateway listening on (\S+)/.exec(await cli.text('gateway listening on')) ?? []
    await getJson(url, 'red')
    expect(await cli.text('w1 stopping')).toMatch(/^\[warn\] worker w1 stopping: .*500/)
    await stop(cli)
  })
})

describe('corral run fails with one message and status 1 when', () => {
  test('the worker cannot start: its last words are in it', async () => {
    const { code, stdout, stderr } = await corral(['run', '--port', '0', ...worker('exits-at-start')]).exit
    expect(code).toBe(1)
    expect(stdout).toContain('worker w1 crashed')
    expect(stdout).not.toContain('listening')
    expect(stderr).toMatch(/^corral: /)
    expect(stderr).toContain('cannot start')
    expect(stderr).not.toContain('    at ')
    expect(fixtureProcesses()).toEqual([])
  })

  test('the worker is never ready', async () => {
    const cli = run('never-ready', ['--start-timeout', '300ms'])
    const { code, stdout } = await cli.exit
    expect(code).toBe(1)
    const events = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { type: string })
    expect(events.filter(({ type }) => type === 'error')).toMatchObject([{ error: { code: 'WORKER_START_TIMEOUT' } }])
    expect(fixtureProcesses()).toEqual([])
  })

  test('the directory for temporary files is not there', async () => {
    const cli = corral(['run', '--port', '0', '--json', ...worker('echo-server')], [], { TMPDIR: '/nowhere' })
    const { code, stdout, stderr } = await cli.exit
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain(
      'corral: --state-dir: expected a directory that can be written to, got /nowhere, for want of another one (ENOENT)',
    )
  })

  test('something else is where a part of its state directory goes', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'state-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    mkdirSync(join(directory, 'own/out.1'), { recursive: true })
    const cli = corral(['run', '--port', '0', '--state-dir', directory, ...worker('echo-server')])
    const { code, stdout, stderr } = await cli.exit
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    const got = `${directory}, with own/out.1 in the way (EISDIR)`
    expect(stderr).toContain(`corral: --state-dir: expected a directory that can be written to, got ${got}`)
  })

  test('the command does not exist', async () => {
    const { code, stderr } = await corral(['run', '--port', '0', '--', './no-such-command']).exit
    expect(code).toBe(1)
    expect(stderr).toContain('no-such-command')
    expect(stderr).not.toContain('    at ')
  })

  test.each(['--port', '--admin'])('the port of %s is busy', async (flag) => {
    const server = createServer()
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    const { port } = server.address() as AddressInfo
    const free = flag === '--port' ? [] : ['--port', '0']
    const { code, stdout, stderr } = await corral(['run', ...free, flag, String(port), ...worker('echo-server')]).exit
    expect(code).toBe(1)
    expect(stderr).toBe(`corral: Cannot listen on 127.0.0.1:${port} (${flag}): the port is in use\n`)
    expect(stdout).toBe('')
    expect(fixtureProcesses()).toEqual([])
    server.close()
  })

  test.runIf(process.platform === 'linux')(
    'nothing can be written where its state goes, and nothing stays there',
    async () => {
      const directory = mkdtempSync(join(tmpdir(), 'full-'))
      onTestFinished(() => rmSync(directory, { recursive: true }))
      const command = ['-c', 'ulimit -f 0; exec "$@"', 'sh', process.execPath, main, 'run', '--port', '0', '--', 'true']
      const { code, stderr } = await promisify(execFile)('sh', command, {
        env: { ...process.env, TMPDIR: directory },
      }).then(
        (output) => ({ ...output, code: 0 }),
        (error: { code: number; stderr: string }) => error,
      )
      expect({ code, stderr: stderr.split('\n')[0] }).toEqual({
        code: 2,
        stderr: `corral: --state-dir: expected a directory that can be written to, got ${directory}, for want of another one (EFBIG)`,
      })
      expect(readdirSync(directory)).toEqual([])
    },
  )

  test.each(['--host', '--admin'])('the name of %s means nothing', async (flag) => {
    const name = flag === '--host' ? 'nope.invalid' : 'nope.invalid:0'
    const { code, stdout, stderr } = await corral(['run', '--port', '0', flag, name, ...worker('echo-server')]).exit
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toBe(`corral: Cannot listen on nope.invalid:0 (${flag}): the name cannot be resolved\n`)
  })

  test.each([
    ['192.0.2.1', 'this machine has no such address'],
    ['256.1.1.1', 'the name cannot be resolved'],
    ['fe80::1', 'EINVAL'],
  ])('%s is no address of this machine, which is told of the flag that has it', async (host, reason) => {
    const written = host.includes(':') ? `[${host}]` : host
    const asHost = corral(['run', '--port', '0', '--host', host, ...worker('echo-server')]).exit
    const asAdmin = corral(['run', '--port', '0', '--admin', `${written}:0`, ...worker('echo-server')]).exit
    for (const [flag, exit] of [['--host', asHost] as const, ['--admin', asAdmin] as const]) {
      const { code, stdout, stderr } = await exit
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
      expect(stderr).toContain(`corral: Cannot listen on ${written}:0 (${flag}): `)
      expect(stderr).toContain(reason)
    }
  })

  test('the port is one that browsers refuse, which is an error of the command line', async () => {
    const { code, stdout, stderr } = await corral(['run', '--port', '6000', ...worker('echo-server')]).exit
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toBe(
      'corral: Cannot listen on 127.0.0.1:6000 (--port): browsers refuse this port, and so does the gateway; take another one\n' +
        'See corral run --help\n',
    )
  })

  test.runIf(process.platform === 'linux')(
    'the spawn helper ends as it starts, which is told in one line',
    async () => {
      const broken = 'data:text/javascript,process.execPath="/bin/false"'
      const { code, stdout, stderr } = await corral(
        ['run', '--port', '0', ...worker('echo-server')],
        ['--import', broken],
      ).exit
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
      expect(stderr).toBe(
        'corral: The spawn helper did not get ready: it exited with status 1. Look at what it printed, if anything, at the ' +
          'limit on processes (ulimit -u, pids limit of the cgroup), and whether somebody has stopped it\n',
      )
    },
  )

  test('it has a fault of its own, and still leaves no process', async () => {
    const fault = 'data:text/javascript,process.on("SIGUSR2",()=>{throw new Error("fault")})'
    const cli = run('echo-server', [], ['--import', fault])
    await getJson(await urlOf(cli), 'red')
    cli.kill('SIGUSR2')
    const { code, stdout } = await cli.exit
    expect(code).toBe(1)
    expect(stdout).toContain('"error":{"message":"fault"}')
    expect(fixtureProcesses()).toEqual([])
  })
})

/** Ends it, and checks that it ended as asked. */
async function stop(cli: Cli): Promise<void> {
  cli.kill('SIGTERM')
  const { code, stderr } = await cli.exit
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(fixtureProcesses()).toEqual([])
}

test.runIf(process.platform === 'linux')(
  'on a terminal, too, the words of workers are printed as they are',
  async () => {
    const words = 'a `b` _c_ **d**'
    const failing = `console.error(${JSON.stringify(words)}); process.exit(3)`
    const command = [
      process.execPath,
      `${root}dist/adapters/cli/main.js`,
      'run',
      '--port',
      '0',
      '--',
      'node',
      '-e',
      failing,
    ]
    const quoted = command.map((part) => `'${part}'`).join(' ')
    const { stdout } = await promisify(execFile)('script', [
      '--quiet',
      '--return',
      '--command',
      quoted,
      '/dev/null',
    ]).catch((error: { stdout: string }) => error)
    expect(stdout).toContain(`status 3 before it was ready | ${words}\r\n`)
  },
)
