import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { processWorker } from '../../../src/runtime/process/index.ts'
import type { ProcessWorkerOptions } from '../../../src/runtime/process/index.ts'

const worker = (options: unknown) => processWorker(options as ProcessWorkerOptions)
const check = async () => {}

describe('the policy of the backend', () => {
  test('has defaults', () => {
    expect(worker({ command: 'x' })).toMatchObject({
      startTimeout: 30_000,
      startAttempts: 3,
      stopGrace: 5_000,
      liveness: { interval: 10_000, timeout: 5_000, failures: 3 },
    })
  })

  test('is what the options say', () => {
    const health = { startTimeout: 1, startAttempts: 1, interval: 0, timeout: 2, failures: 9 }
    expect(worker({ command: 'x', health, stop: { grace: 0 } })).toMatchObject({
      startTimeout: 1,
      startAttempts: 1,
      stopGrace: 0,
      liveness: { interval: 0, timeout: 2, failures: 9 },
    })
  })
})

describe('accepted', () => {
  test.each([
    { health: { path: '/health?deep=1' } },
    { health: { line: 'ready' } },
    { health: { line: /ready/ } },
    { health: { check } },
    { health: { path: undefined, line: undefined }, args: undefined, env: undefined, cwd: undefined, stop: undefined },
    { env: { A: '1', B: undefined } },
    { stop: { signal: 'SIGINT', target: 'leader' } },
  ])('%j', (options) => {
    expect(() => worker({ command: 'x', ...options })).not.toThrow()
  })
})

describe('refused', () => {
  test.each([
    [{}, '"command": expected a string, got undefined'],
    [{ command: '' }, '"command": expected the command to start, got ""'],
    [{ command: 'x', args: '--port' }, '"args": expected an array, got "--port"'],
    [{ command: 'x', args: [8080] }, '"args.0": expected a string, got 8080'],
    [{ command: 'x', args: ['a\0b'] }, '"args.0": expected text without NUL characters'],
    [
      {
        command: 'x',
        isolation: { level: 'full', binds: ['/a', { source: '/b', target: '/a/', access: 'read-write' }] },
      },
      '"isolation.binds": expected paths that are each given once, got "/a"',
    ],
    [
      { command: 'x', isolation: { level: 'full', binds: ['/opt/..'] } },
      '"isolation.binds": expected paths other than "/", which is read-only as it is: name what is hidden of it, got "/"',
    ],
    [
      { command: 'x', isolation: { level: 'full', binds: [{ source: '/', target: '/host' }] } },
      '"isolation.binds": expected paths other than "/"',
    ],
    [
      { command: 'x', args: ['{{port}}'], isolation: { level: 'full', network: 'none' } },
      '"isolation.network": expected "host", or {{socket}} for the worker to serve on, got "none"',
    ],
    [{ command: 'x', args: ['{{prot}}'] }, '"args.0": expected only the placeholders'],
    [{ command: 'x', env: { A: 1 } }, '"env.A": expected a string'],
    [{ command: 'x', env: { 'A=B': '1' } }, '"env.A=B": expected a variable name'],
    [{ command: 'x', arg: [] }, '"arg": expected one of the known options (did you mean "args"?)'],
    [{ command: 'x', health: { startTimout: 1 } }, '(did you mean "startTimeout"?)'],
    [{ command: 'x', health: { path: 'health' } }, '"health.path": expected a path that starts with "/"'],
    [{ command: 'x', health: { path: '/a b' } }, '"health.path": expected a path that starts with "/"'],
    [{ command: 'x', health: { line: 3 } }, '"health.line": expected a string or a RegExp, got 3'],
    [{ command: 'x', health: { check: 'tcp' } }, '"health.check": expected a function, got "tcp"'],
    [
      { command: 'x', health: { path: '/', line: 'a' } },
      '"health.line": expected nothing beside "health.path", got "a"',
    ],
    [
      { command: 'x', health: { line: 'a', check } },
      '"health.check": expected nothing beside "health.line", got a function',
    ],
    [{ command: 'x', health: { startTimeout: -1 } }, '"health.startTimeout": expected a duration'],
    [
      { command: 'x', health: { startTimeout: 0 } },
      '"health.startTimeout": expected a duration of at least 1 ms, got 0',
    ],
    [{ command: 'x', health: { interval: Number.NaN } }, '"health.interval": expected a duration'],
    [{ command: 'x', health: { failures: 0 } }, '"health.failures": expected a whole number of 1 or more, got 0'],
    [{ command: 'x', health: { startAttempts: 1.5 } }, '"health.startAttempts": expected a whole number of 1 or more'],
    [
      { command: 'x', stop: { signal: 'TERM' } },
      '"stop.signal": expected the name of a signal, such as "SIGTERM", got "TERM"',
    ],
    [{ command: 'x', stop: { grace: Number.POSITIVE_INFINITY } }, '"stop.grace": expected a duration'],
    [{ command: 'x', onOutput: true }, '"onOutput": expected a function, got true'],
    ['node', '"options": expected an object, got "node"'],
  ])('%j', (options, message) => {
    expect(() => worker(options)).toThrow(message)
  })
})

test('a working directory is told from that of this process, where that is there', () => {
  const gone = vi.spyOn(process, 'cwd').mockImplementation(() => {
    throw new Error('ENOENT: uv_cwd')
  })
  onTestFinished(() => gone.mockRestore())
  worker({ command: 'x', cwd: '/tmp' })
  expect(() => worker({ command: 'x', cwd: 'app' })).toThrow(
    '"cwd": expected an absolute path, as the working directory of this process has been removed',
  )
})
