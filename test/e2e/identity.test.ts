import { createPool, processWorker, type PoolEvent, type PoolOptions } from 'corral'
import { bearerToken, createGateway, fromCookie, fromHeader, sessionKey, type GatewayOptions } from 'corral/h3'
import { expect, onTestFinished, test } from 'vitest'
import { fixture, fixtureProcesses, leavesNoProcess, type Fixture } from '../_processes.ts'

leavesNoProcess()

async function open(name: Fixture, gatewayOptions: GatewayOptions, options: Omit<PoolOptions, 'worker'> = {}) {
  const events: PoolEvent[] = []
  const pool = await createPool({
    size: { min: 0, max: 4 },
    ...options,
    worker: processWorker(fixture(name)),
    onEvent: (event) => events.push(event),
  })
  const listener = await createGateway(pool, gatewayOptions).listen({ port: 0 })
  onTestFinished(async () => {
    await listener.close({ grace: 0 })
    await pool.close()
    expect(fixtureProcesses()).toEqual([])
  })
  const ask = async (path: string, headers: Record<string, string> = {}, method = 'GET') => {
    const response = await fetch(`${listener.url}${path}`, { method, headers })
    const text = await response.text()
    const body = (text === '' ? {} : JSON.parse(text)) as { pid: number; count: number; code?: string }
    return { status: response.status, headers: response.headers, body }
  }
  const ended = (reason: string) =>
    events.filter((event) => event.type === 'session.ended' && event.reason === reason).length
  return { pool, events, ask, ended }
}

test('a server that names its sessions itself has one process for each, until it is told goodbye', async () => {
  const { ask, pool, ended } = await open('names-sessions', { sessionId: fromHeader('mcp-session-id'), adopt: true })
  const [first, second] = [await ask('/mcp', {}, 'POST'), await ask('/mcp', {}, 'POST')]
  const id = first.headers.get('mcp-session-id') as string
  expect(second.body.pid).not.toBe(first.body.pid)
  for (const count of [1, 2]) {
    expect((await ask('/mcp', { 'mcp-session-id': id }, 'POST')).body).toEqual({ pid: first.body.pid, count })
  }
  expect(pool.stats().sessions).toMatchObject({ active: 0, idle: 2 })
  expect((await ask('/mcp', { 'mcp-session-id': id }, 'DELETE')).status).toBe(204)
  await expect.poll(() => ended('released')).toBe(1)
  const late = await ask('/mcp', { 'mcp-session-id': id }, 'POST')
  expect([late.status, late.body.code]).toEqual([404, 'SESSION_UNKNOWN'])
})

test('a session that its server leaves nameless ends with its request, and its worker is replaced', async () => {
  const { ask, pool, ended } = await open('names-sessions', { sessionId: fromHeader('mcp-session-id'), adopt: true })
  const answer = await ask('/mcp?nameless', {}, 'POST')
  expect([answer.status, answer.headers.get('mcp-session-id')]).toEqual([200, null])
  await expect.poll(() => ended('released')).toBe(1)
  await expect.poll(() => pool.stats().workers.total).toBe(0)
})

test('a session that its server has named is unknown once its process has died', async () => {
  const { ask, ended } = await open('names-sessions', { sessionId: fromHeader('mcp-session-id'), adopt: true })
  const { headers, body } = await ask('/mcp', {}, 'POST')
  process.kill(body.pid, 'SIGKILL')
  await expect.poll(() => ended('lost')).toBe(1)
  const late = await ask('/mcp', { 'mcp-session-id': headers.get('mcp-session-id') as string }, 'POST')
  expect(late.status).toBe(404)
})

test('two principals with the same id have two processes, and each comes back to its own', async () => {
  const tokens = { 'alice-0123456789abcdef': 'alice', 'bob-0123456789abcdef': 'bob' }
  const { ask, pool } = await open('echo-server', {
    sessionId: fromHeader('x-session-id'),
    authorize: bearerToken(tokens),
  })
  const as = (name: string) => ask('/', { 'x-session-id': 'red', authorization: `Bearer ${name}-0123456789abcdef` })
  const [alice, bob, again] = [await as('alice'), await as('bob'), await as('alice')]
  expect(bob.body.pid).not.toBe(alice.body.pid)
  expect(again.body).toMatchObject({ pid: alice.body.pid, count: 2 })
  expect(await pool.end(sessionKey('alice', 'red'))).toBe(true)
  expect((await as('bob')).body).toMatchObject({ pid: bob.body.pid, count: 2 })
  expect((await as('alice')).body.count).toBe(1)
})

test('one principal cannot have more than its share of the workers, and another still gets one', async () => {
  const tokens = { 'alice-0123456789abcdef': 'alice', 'bob-0123456789abcdef': 'bob' }
  const { ask } = await open(
    'echo-server',
    { sessionId: fromHeader('x-session-id'), authorize: bearerToken(tokens) },
    { tenant: { sessions: 2 } },
  )
  const as = (name: string, id: string) =>
    ask('/', { 'x-session-id': id, authorization: `Bearer ${name}-0123456789abcdef` })
  expect([(await as('alice', 'a')).status, (await as('alice', 'b')).status]).toEqual([200, 200])
  const refused = await as('alice', 'c')
  expect([refused.status, refused.body.code, refused.headers.get('retry-after')]).toEqual([429, 'TENANT_LIMIT', '1'])
  expect((await as('bob', 'c')).status).toBe(200)
  expect((await as('alice', 'a')).body.count).toBe(2)
})

test('a browser gets a session of its own, and keeps it, by a signed cookie', async () => {
  const keys = ['a secret of enough bytes']
  const { ask } = await open('echo-server', { sessionId: fromCookie('sid'), issue: true, sign: { keys } })
  const first = await ask('/')
  const cookie = first.headers
    .getSetCookie()
    .map((line) => line.split(';')[0])
    .join('; ')
  expect((await ask('/', { cookie })).body).toMatchObject({ pid: first.body.pid, count: 2 })
  expect((await ask('/')).body.pid).not.toBe(first.body.pid)
  expect((await ask('/', { cookie: cookie.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A')) })).status).toBe(401)
})
