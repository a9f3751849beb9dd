import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { createPool, processWorker, type Pool, type PoolEvent, type PoolOptions } from 'corral'
import { createGateway, fromHeader, type GatewayListener } from 'corral/h3'
import { Agent, request } from 'undici'
import { expect, onTestFinished, test } from 'vitest'
import { fixture, fixtureProcesses, leavesNoProcess, type Fixture } from '../_processes.ts'

leavesNoProcess()

interface Scene {
  readonly pool: Pool
  readonly events: PoolEvent[]
  readonly listener: GatewayListener
  /** Sends a request of a session, on connections that are shared by all of the test's requests. */
  readonly send: (id: string, path?: string, method?: 'GET' | 'POST') => Promise<Answer>
}

interface Answer {
  readonly status: number
  readonly body: { pid: number; count: number; code?: string }
}

async function open(options: Omit<PoolOptions, 'worker'>, name: Fixture = 'echo-server'): Promise<Scene> {
  const pool = await createPool({
    ...options,
    worker: processWorker({ ...fixture(name), health: { path: '/health' } }),
  })
  const events: PoolEvent[] = []
  pool.on('*', (event) => events.push(event))
  const listener = await createGateway(pool, { sessionId: fromHeader('x-session-id') }).listen({ port: 0 })
  const dispatcher = new Agent({ connections: 256 })
  onTestFinished(async () => {
    await dispatcher.destroy()
    await listener.close({ grace: 0 })
    await pool.close()
    expect(fixtureProcesses()).toEqual([])
  })
  return {
    pool,
    events,
    listener,
    send: async (id, path = '/', method = 'GET') => {
      const url = `${listener.url}${path}`
      const { statusCode, body } = await request(url, { method, dispatcher, headers: { 'x-session-id': id } })
      return { status: statusCode, body: (await body.json()) as Answer['body'] }
    },
  }
}

test('20 concurrent requests of one new id get one process', async () => {
  const { send, pool } = await open({ size: { min: 0, max: 5 } })
  const answers = await Promise.all(Array.from({ length: 20 }, () => send('red')))
  expect(new Set(answers.map(({ body }) => body.pid)).size).toBe(1)
  expect(answers.map(({ body }) => body.count).toSorted((a, b) => a - b)).toEqual(answers.map((_, i) => i + 1))
  expect(pool.stats().totals).toMatchObject({ sessionsStarted: 1, workersStarted: 1 })
})

test('200 concurrent requests for 50 new ids are all answered, and never by more than 10 processes at a time', async () => {
  const { send, pool } = await open({ size: { min: 0, max: 10 }, session: { idleTtl: 0 } })
  let most = 0
  const over = new AbortController()
  const watching = (async () => {
    while (!over.signal.aborted) {
      most = Math.max(most, fixtureProcesses().length)
      await new Promise((resolve) => setImmediate(resolve))
    }
  })()
  const answers = await Promise.all(Array.from({ length: 200 }, (_, i) => send(`session-${i % 50}`)))
  over.abort()
  await watching
  expect(answers.filter(({ status }) => status !== 200)).toEqual([])
  expect(most).toBeGreaterThan(0)
  expect(most).toBeLessThanOrEqual(10)
  expect(pool.stats()).toMatchObject({ leases: 0, queue: { sessions: 0, waiters: 0 } })
})

test('kill -9 of a worker under load ends its session and no other, and the id works again at once', async () => {
  const { send, events } = await open({ size: { min: 2, max: 5 } })
  const ids = ['red', 'green', 'blue']
  const before = new Map(await Promise.all(ids.map(async (id) => [id, (await send(id)).body.pid] as const)))
  const loads = ids.map(async (id) => {
    const answers: Answer[] = []
    for (let i = 0; i < 50; i++) {
      if (id === 'red' && i === 10) process.kill(before.get(id)!, 'SIGKILL')
      answers.push(await send(id))
    }
    return answers
  })
  const [red, green, blue] = await Promise.all(loads)
  for (const { body, status } of [...green!, ...blue!]) {
    expect(status).toBe(200)
    expect([before.get('green'), before.get('blue')]).toContain(body.pid)
  }
  // The request that met the death may fail; those after it are served by a new process, which counts from one.
  const failed = red!.filter(({ status }) => status !== 200)
  expect(failed.every(({ status, body }) => status === 502 && body.code !== undefined)).toBe(true)
  const after = red!.filter(({ status, body }) => status === 200 && body.pid !== before.get('red'))
  expect(new Set(after.map(({ body }) => body.pid)).size).toBe(1)
  expect(after.map(({ body }) => body.count)).toEqual(after.map((_, i) => i + 1))
  expect(events.filter(({ type }) => type === 'session.lost')).toMatchObject([
    { sessionId: 'red', reason: 'crashed', signal: 'SIGKILL', exitCode: null },
  ])
})

test('a response that a dying worker has begun is cut, and the client can tell', async () => {
  const { send, listener, pool } = await open({ size: { min: 1, max: 2 } })
  const lost = new Promise((resolve) => {
    pool.on('session.lost', resolve)
  })
  const response = await request(`${listener.url}/crash-midway`, { headers: { 'x-session-id': 'red' } })
  await expect(response.body.text()).rejects.toThrow(/terminated|other side closed|aborted/)
  await lost
  expect((await send('red')).body.count).toBe(1)
})

test('a session that ended leaves no trace for the next one of its id', async () => {
  const { send, pool } = await open({ size: { min: 1, max: 2 } })
  const first = await send('red')
  expect(await pool.end('red')).toBe(true)
  const second = await send('red')
  expect(second.body).toMatchObject({ count: 1 })
  expect(second.body.pid).not.toBe(first.body.pid)
})

test('with a reset hook the process is used again, reset', async () => {
  const { send, pool } = await open({ size: { min: 1, max: 1 }, session: { reuse: { reset: '/reset' } } })
  const first = await send('red')
  await pool.end('red')
  expect((await send('blue')).body).toMatchObject({ pid: first.body.pid, count: 1 })
})

test('a full pool refuses with 503, Retry-After and a code, and recovers', async () => {
  const { send, pool, listener } = await open({ size: { min: 1, max: 1 }, queue: { limit: 0 } })
  await send('red')
  const { statusCode, headers, body } = await request(listener.url, { headers: { 'x-session-id': 'blue' } })
  expect(await body.json()).toMatchObject({ status: 503, code: 'QUEUE_FULL' })
  expect(statusCode).toBe(503)
  expect(headers['content-type']).toBe('application/problem+json')
  expect(Number(headers['retry-after'])).toBeGreaterThan(0)
  await pool.end('red')
  await expect.poll(async () => (await send('blue')).status).toBe(200)
})

test('a worker whose starts fail is reported with a code and without its output', async () => {
  const pool = await createPool({
    worker: processWorker({ ...fixture('exits-at-start'), health: { path: '/health', startAttempts: 1 } }),
    size: { min: 0, max: 2 },
    breaker: { failures: 1 },
  })
  const listener = await createGateway(pool, { sessionId: fromHeader('x-session-id') }).listen({ port: 0 })
  onTestFinished(async () => {
    await listener.close({ grace: 0 })
    await pool.close()
  })
  const { statusCode, headers, body } = await request(listener.url, { headers: { 'x-session-id': 'red' } })
  const text = await body.text()
  expect(statusCode).toBe(503)
  expect(headers['retry-after']).toBeDefined()
  expect(JSON.parse(text)).toMatchObject({ code: 'WORKER_START_FAILED' })
  expect(text).not.toMatch(/cannot start|127\.0\.0\.1|\.mjs|at /)
})

test('closing leaves no process, however many sessions are live', async () => {
  const { send, pool, listener } = await open({ size: { min: 1, max: 6 } }, 'forks-children')
  await Promise.all(['red', 'green', 'blue'].map((id) => send(id).catch(() => undefined)))
  expect(fixtureProcesses().length).toBeGreaterThan(3)
  await listener.close({ grace: 0 })
  await pool.close()
  expect(fixtureProcesses()).toEqual([])
  expect(sockets()).toEqual([])
})

/** The TCP sockets that this process has open. */
function sockets(): string[] {
  const open = readdirSync('/proc/self/fd').map((fd) => link(`/proc/self/fd/${fd}`))
  const inodes = new Set(open.flatMap((target) => /^socket:\[(\d+)\]$/.exec(target)?.[1] ?? []))
  return readFileSync('/proc/self/net/tcp', 'utf8')
    .split('\n')
    .slice(1)
    .filter((line) => inodes.has(line.trim().split(/\s+/)[9] ?? ''))
}

function link(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}

test.each(['code=3', 'signal=SIGKILL', 'signal=SIGTERM'])(
  'a body that ends with the connection of a process that dies (%s) is never taken for a whole one',
  async (how) => {
    const { listener } = await open({ size: { min: 1, max: 4 } })
    const url = `${listener.url}/crash-midway?ends=with-connection&${how}`
    for (let i = 0; i < 12; i++) {
      const response = await request(url, { headers: { 'x-session-id': `session-${i}` } })
      expect(response.statusCode).toBe(200)
      await expect(response.body.text()).rejects.toThrow(/terminated|other side closed|aborted/)
    }
  },
)
