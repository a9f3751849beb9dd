import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { processWorker } from '../../../src/runtime/process/index.ts'
import { fixture, fixtureProcesses, leavesNoProcess } from '../../_processes.ts'
import { getJson, launch, launchReady, never, portOf } from './_launch.ts'

leavesNoProcess()

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'launch-'))
})

afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(directory, { recursive: true })
})

interface Echo {
  pid: number
  worker: string
}

describe('a launched worker', () => {
  test('serves on the port that it was given', async () => {
    const worker = await launchReady(fixture('echo-server'), 'w12')
    expect(worker.address).toEqual({ host: '127.0.0.1', port: expect.any(Number) as number })
    expect(await getJson<Echo>(worker, '/')).toMatchObject({ pid: worker.pid, worker: 'w12' })
  })

  test('gets the port as PORT when nothing names it', async () => {
    const { command, args, env } = fixture('echo-server')
    const worker = await launchReady({ command, args: args.slice(0, 1), env })
    expect(await getJson(worker, '/env')).toMatchObject({ PORT: String(portOf(worker)) })
  })

  test('gets its own PORT when that is given', async () => {
    const { env, ...options } = fixture('echo-server')
    const worker = await launchReady({ ...options, env: { ...env, PORT: 'p{{port}}' } })
    expect(await getJson(worker, '/env')).toMatchObject({ PORT: `p${portOf(worker)}` })
  })

  test("sees the allowed part of the parent's environment and what was given, nothing else", async () => {
    vi.stubEnv('CORRAL_TEST_SECRET', 'hidden')
    vi.stubEnv('LC_MESSAGES', 'C')
    vi.stubEnv('LOGNAME', 'somebody')
    const { env, ...options } = fixture('echo-server')
    const worker = await launchReady({ ...options, env: { ...env, GIVEN: 'yes-{{id}}', LOGNAME: undefined } })
    const seen = await getJson<Record<string, string>>(worker, '/env')
    expect(seen).toMatchObject({ GIVEN: 'yes-w1', PATH: process.env.PATH, LC_MESSAGES: 'C' })
    expect(Object.keys(seen)).not.toContain('CORRAL_TEST_SECRET')
    expect(Object.keys(seen)).not.toContain('LOGNAME')
  })

  test('leads a process group of its own', async () => {
    const { pid } = await launchReady(fixture('echo-server'))
    expect(process.kill(-pid!, 0)).toBe(true)
  })

  test('runs in its working directory', async () => {
    const { command, env } = fixture('echo-server')
    writeFileSync(join(directory, 'here.mjs'), `process.stderr.write(process.cwd())`)
    const worker = await launch({ command, args: ['here.mjs'], env, cwd: directory })
    await worker.exited
    expect(worker.output!()).toEqual([directory])
  })
})

describe('a unix socket', () => {
  test('lies in a private directory that is removed with the worker', async () => {
    const worker = await launchReady(fixture('echo-server', {}, 'socket'))
    const { socketPath } = worker.address as { socketPath: string }
    expect(statSync(dirname(socketPath)).mode & 0o777).toBe(0o700)
    await expect(worker.check!(never)).resolves.toBeUndefined()
    worker.kill()
    await worker.exited
    expect(statSync(dirname(socketPath), { throwIfNoEntry: false })).toBeUndefined()
  })

  test('is another one for every start', async () => {
    const paths = await Promise.all(
      [1, 2].map(async () => (await launch(fixture('never-ready', {}, 'socket'))).address),
    )
    expect(paths[0]).not.toEqual(paths[1])
  })

  test('comes with a port when the command asks for both', async () => {
    const { env, ...options } = fixture('echo-server', {}, 'socket')
    const worker = await launchReady({ ...options, env: { ...env, DEBUG_PORT: '{{port}}' } })
    expect(worker.address).toHaveProperty('socketPath')
  })

  test('whose path is too long for the system is refused, and nothing is left', async () => {
    const long = join(directory, 'd'.repeat(100))
    mkdirSync(long)
    vi.stubEnv('TMPDIR', long)
    await expect(launch(fixture('echo-server', {}, 'socket'))).rejects.toThrow(
      /has \d+ bytes.*stateDirectory, or TMPDIR, to a shorter/,
    )
    expect(readdirSync(long)).toEqual([])
  })
})

describe('a command that cannot be started', () => {
  const launchCommand = (command: string, cwd?: string) => {
    vi.stubEnv('TMPDIR', directory)
    return launch({ command, args: ['{{socket}}'], cwd })
  }

  const file = (name: string, content: string, mode: number) => {
    const path = join(directory, name)
    writeFileSync(path, content, { mode })
    return path
  }

  test('is named when it is not in PATH', async () => {
    await expect(launchCommand('no-such-command')).rejects.toThrow(
      `Cannot start "no-such-command": it is not in the worker's PATH; install it, or give its path`,
    )
  })

  test('is named when there is no such file', async () => {
    await expect(launchCommand('./missing')).rejects.toThrow('Cannot start "./missing": there is no such file')
  })

  test('is named when it is not executable', async () => {
    await expect(launchCommand(file('data', 'text', 0o644))).rejects.toThrow('correct its permissions (chmod +x)')
  })

  test.each([
    ['of its own', () => directory, undefined],
    ['below the working directory', () => './inner', () => directory],
  ])('is named when it is a directory %s', async (_where, command, cwd) => {
    mkdirSync(join(directory, 'inner'))
    await expect(launchCommand(command(), cwd?.())).rejects.toThrow('it is a directory; give the path of the program')
  })

  test.each(['.', '..', 'inner'])('is named when all that PATH has of %j are directories', async (command) => {
    mkdirSync(join(directory, 'inner'))
    vi.stubEnv('PATH', directory)
    await expect(launchCommand(command)).rejects.toThrow('it is a directory; give the path of the program')
  })

  test('is told from a missing interpreter', async () => {
    await expect(launchCommand(file('script', '#!/no/such/shell\n', 0o755))).rejects.toThrow(
      'the interpreter in its first line',
    )
  })

  test('is told from a missing working directory', async () => {
    await expect(launchCommand('node', '/no/such/directory')).rejects.toThrow(
      'its working directory "/no/such/directory" is not a directory',
    )
  })

  test('is told from arguments that are too much', async () => {
    await expect(launch({ command: 'node', args: ['-e', '0'.repeat(4 * 1024 * 1024), '{{socket}}'] })).rejects.toThrow(
      'its arguments and environment are more than the system takes (E2BIG)',
    )
  })

  test('keeps the cause and leaves nothing behind', async () => {
    const error = await launchCommand('./missing').catch((error: unknown) => error)
    expect(error).toMatchObject({ cause: { code: 'ENOENT' } })
    expect(readdirSync(directory)).toEqual([])
  })
})

describe('a launch that is not wanted any more', () => {
  test('starts nothing when its signal has aborted before', async () => {
    const reason = new Error('unwanted')
    const backend = processWorker(fixture('never-ready'))
    await expect(backend.launch({ workerId: 'w1', signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    expect(fixtureProcesses()).toEqual([])
  })

  test('starts nothing when its signal aborts while an address is looked for', async () => {
    vi.stubEnv('TMPDIR', directory)
    const reason = new Error('unwanted')
    const controller = new AbortController()
    const backend = processWorker(fixture('never-ready', {}, 'socket'))
    const launched = backend.launch({ workerId: 'w1', signal: controller.signal })
    controller.abort(reason)
    await expect(launched).rejects.toBe(reason)
    expect(fixtureProcesses()).toEqual([])
    expect(readdirSync(directory)).toEqual([])
  })
})
