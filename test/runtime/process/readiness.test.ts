import { writeFileSync, mkdtempSync, rmSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ProcessWorkerOptions } from '../../../src/runtime/process/index.ts'
import { fixture, fixtureProcesses, leavesNoProcess } from '../../_processes.ts'
import { getJson, launch, launchReady, never, portOf, recordOutput } from './_launch.ts'

leavesNoProcess()

let directory: string

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'ready-'))
})

afterAll(() => rmSync(directory, { recursive: true }))

describe('ready', () => {
  test('waits until the worker accepts a connection', async () => {
    const file = join(directory, 'accepts')
    const worker = await launch(fixture('slow-start', { START_FILE: file }))
    let isReady = false
    const ready = worker.ready(never).then(() => (isReady = true))
    await connectionRefused(portOf(worker))
    expect(isReady).toBe(false)
    writeFileSync(file, '')
    await ready
    await expect(getJson(worker, '/')).resolves.toMatchObject({ count: 1 })
  })

  test('waits until the path answers with a good status', async () => {
    const worker = await launch({
      ...fixture('echo-server', { HEALTH_STATUS: '503' }),
      health: { path: '/health' },
    })
    let isReady = false
    const ready = worker.ready(never).then(() => (isReady = true))
    await accepted(portOf(worker))
    expect(isReady).toBe(false)
    await setHealth(portOf(worker), 200)
    await ready
  })

  test('asks a check again until it resolves', async () => {
    const answers = ['no', 'no', 'yes']
    const check = async () => {
      if (answers.shift() !== 'yes') throw new Error('not yet')
    }
    await launchReady({ ...fixture('never-ready'), health: { check } })
    expect(answers).toEqual([])
  })

  test.each([200, 204, 302, 399])('takes status %i for healthy', async (status) => {
    const worker = await launchReady({ ...fixture('echo-server'), health: { path: '/health' } })
    await setHealth(portOf(worker), status)
    await expect(worker.check!(never)).resolves.toBeUndefined()
  })

  test.each([400, 404, 500, 503])('takes status %i for unhealthy', async (status) => {
    const worker = await launchReady({ ...fixture('echo-server'), health: { path: '/health' } })
    await setHealth(portOf(worker), status)
    await expect(worker.check!(never)).rejects.toThrow(`GET /health was answered with status ${status}`)
  })

  test('gives a check the address, the process and the worker', async () => {
    const targets: object[] = []
    const check = async ({ signal, ...target }: { signal: AbortSignal }) => {
      expect(signal.aborted).toBe(false)
      targets.push(target)
    }
    const worker = await launchReady({ ...fixture('never-ready'), health: { check } }, 'w5')
    expect(targets).toEqual([{ address: worker.address, pid: worker.pid, workerId: 'w5' }])
  })

  test('rejects with the reason when nobody waits any more', async () => {
    const worker = await launch(fixture('never-ready'))
    const reason = new Error('start timeout')
    const controller = new AbortController()
    const ready = worker.ready(controller.signal)
    await connectionRefused(portOf(worker))
    controller.abort(reason)
    await expect(ready).rejects.toBe(reason)
    worker.kill()
    expect(await worker.exited).toMatchObject({
      signal: 'SIGKILL',
      retry: true,
      message: expect.stringContaining('The worker was not ready: connect ECONNREFUSED') as string,
    })
  })

  test('is told through a worker that listens but is frozen', async () => {
    const worker = await launch({ ...fixture('freezes', { FREEZE_AT_START: '1' }), health: { path: '/', timeout: 20 } })
    const controller = new AbortController()
    const ready = worker.ready(controller.signal)
    await accepted(portOf(worker))
    controller.abort(new Error('enough'))
    await expect(ready).rejects.toThrow('enough')
  })
})

describe('a line on stdout', () => {
  test.each<[string, Record<string, string>, string | RegExp]>([
    ['as text within the line', { READY_LINE: 'now ready to serve' }, 'ready'],
    ['as a pattern', { READY_LINE: 'listening on 8080' }, /^listening on \d+$/],
    ['as a global pattern', { READY_LINE: 'listening' }, /i/g],
    ['in pieces', { READY_LINE: 'bereit: ✓', SPLIT: '1' }, 'bereit: ✓'],
    ['without a line break', { READY_LINE: '>>> ', NO_NEWLINE: '1' }, '>>> '],
  ])('%s makes the worker ready', async (_title, env, line) => {
    const worker = await launchReady({ ...fixture('prints-ready', env), health: { line } })
    expect(worker).toHaveProperty('check', undefined)
  })

  test('counts when it came before anybody waited', async () => {
    const { onOutput, find } = recordOutput()
    const worker = await launch({ ...fixture('prints-ready'), health: { line: 'ready' }, onOutput })
    await find(/^ready$/)
    await expect(worker.ready(never)).resolves.toBeUndefined()
  })

  test('other lines do not', async () => {
    const { onOutput, find } = recordOutput()
    const options = fixture('prints-ready', { READY_LINE: 'not yet' })
    const worker = await launch({ ...options, health: { line: 'ready' }, onOutput })
    const controller = new AbortController()
    const ready = worker.ready(controller.signal)
    await find(/not yet/)
    controller.abort(new Error('no such line'))
    await expect(ready).rejects.toThrow('no such line')
  })
})

describe('an exit before ready', () => {
  test('may be tried again, and ready says why it never came', async () => {
    const worker = await launch(fixture('exits-at-start', { EXIT_CODE: '7', EXIT_MESSAGE: 'no licence' }))
    const order: string[] = []
    void worker.exited.then(() => order.push('exited'))
    await expect(worker.ready(never)).rejects.toThrow('The worker exited before it was ready (exit code 7)')
    expect([...order, 'ready']).toEqual(['exited', 'ready'])
    expect(await worker.exited).toEqual({ exitCode: 7, signal: null, retry: true })
    expect(worker.output!()).toEqual(['no licence'])
  })

  test('is noticed by a line and by a check that never settles', async () => {
    const line = await launch({ ...fixture('exits-at-start'), health: { line: 'ready' } })
    await expect(line.ready(never)).rejects.toThrow('exited before it was ready')
    const check = await launch({ ...fixture('exits-at-start'), health: { check: () => new Promise(() => {}) } })
    await expect(check.ready(never)).rejects.toThrow('exited before it was ready')
  })

  test('of a port collision succeeds on the next launch, on another port', async () => {
    const log = join(directory, 'ports')
    const env = { COLLISIONS: '1', COLLISIONS_FILE: join(directory, 'collisions'), LOG_FILE: log }
    const first = await launch(fixture('exits-on-taken-port', env))
    expect(await first.exited).toEqual({ exitCode: 98, signal: null, retry: true })
    await launchReady(fixture('exits-on-taken-port', env))
    const ports = readFileSync(log, 'utf8').trim().split('\n')
    expect(new Set(ports).size).toBe(2)
  })
})

test('an exit after ready is not to be tried again by itself', async () => {
  const worker = await launchReady(fixture('echo-server'))
  worker.kill()
  expect(await worker.exited).toEqual({ exitCode: null, signal: 'SIGKILL' })
})

describe.runIf(process.platform === 'linux')('a port that a stranger took', () => {
  /** Starts a worker that stays up without listening, and listens in its place. */
  async function withStranger(health: ProcessWorkerOptions['health'], line = 'up {{port}}') {
    const { onOutput, find } = recordOutput()
    const options = fixture('prints-ready', { READY_LINE: line })
    const worker = await launch({ ...options, ...(health && { health }), onOutput })
    await find(/^up /)
    const server = createServer((_request, response) => response.writeHead(404).end())
    server.listen(portOf(worker), '127.0.0.1')
    await once(server, 'listening')
    return { worker, server }
  }

  test.each<[string, ProcessWorkerOptions['health']]>([
    ['connect', undefined],
    ['path, even when the stranger answers badly', { path: '/health' }],
    ['line', { line: 'up' }],
    ['check', { check: async () => {} }],
  ])('is a collision: %s', async (_title, health) => {
    const { worker, server } = await withStranger(health)
    await expect(worker.ready(never)).rejects.toThrow(/^Port \d+ of the worker was taken by another process/)
    expect(await worker.exited).toMatchObject({ signal: 'SIGKILL', retry: true, message: /was taken/ })
    expect(fixtureProcesses()).toEqual([])
    server.close()
  })

  test('is accepted with listener "any"', async () => {
    const { worker, server } = await withStranger({ listener: 'any' })
    await expect(worker.ready(never)).resolves.toBeUndefined()
    server.closeAllConnections()
    server.close()
  })

  test("is told from one that the worker's descendant listens on", async () => {
    const { command, args, env } = fixture('echo-server')
    const shell = { command: 'sh', args: ['-c', '"$@" & wait', 'sh', command, ...args], env }
    const worker = await launchReady(shell)
    const { pid } = await getJson<{ pid: number }>(worker, '/')
    expect(pid).not.toBe(worker.pid)
  })
})

async function connectionRefused(port: number): Promise<void> {
  const socket = connect(port, '127.0.0.1')
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
  expect(error.code).toBe('ECONNREFUSED')
}

/** Resolves when a connection is accepted, however often that takes. */
async function accepted(port: number): Promise<void> {
  for (;;) {
    const socket = connect(port, '127.0.0.1')
    const isOpen = await new Promise((resolve) => {
      socket.once('connect', () => resolve(true))
      socket.once('error', () => resolve(false))
    })
    socket.destroy()
    if (isOpen === true) return
  }
}

async function setHealth(port: number, status: number): Promise<void> {
  await fetch(`http://127.0.0.1:${port}/health?status=${status}`, { method: 'POST' })
}
