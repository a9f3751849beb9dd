import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { describe, expect, test } from 'vitest'
import { bearerToken, fromHeader, fromQuery } from 'corral/h3'
import type { AdoptedSession, GatewayOptions } from 'corral/h3'
import { dial, openScene, signal } from '../_scene.ts'

const options = { sessionId: fromHeader('Mcp-Session-Id'), adopt: true } as const

/** Names every session that it is asked to, as `x-name` says; answers with what it heard. */
function mcpWorker(req: IncomingMessage, res: ServerResponse): void {
  const { 'x-name': name, 'x-status': status = '200', 'mcp-session-id': id = 'none' } = req.headers
  if (typeof name === 'string') res.setHeader('Mcp-Session-Id', name.split(', '))
  res.writeHead(Number(status))
  res.end(`${req.method} ${id as string}`)
}

async function openMcp(more: Partial<GatewayOptions> = {}) {
  const scene = await openScene(mcpWorker, { ...options, ...more })
  const ask = (headers: Record<string, string> = {}, method = 'POST', path = '/mcp') =>
    fetch(`http://127.0.0.1:${scene.port}${path}`, { method, headers })
  return { ...scene, ask }
}

describe('with adopt, a session', () => {
  test('goes by the id that its worker chose', async () => {
    const { ask, pool } = await openMcp()
    const opened = await ask({ 'x-name': 'chosen' })
    expect([opened.status, opened.headers.get('mcp-session-id')]).toEqual([200, 'chosen'])
    const next = await ask({ 'mcp-session-id': 'chosen' })
    expect(await next.text()).toBe('POST chosen')
    expect(pool.acquired[1]).toBe(pool.acquired[0])
    expect(pool.ended).toEqual([])
  })

  test('goes by that id without the white space behind it', async () => {
    const worker = (req: IncomingMessage, res: ServerResponse) => {
      if (req.headers['mcp-session-id'] === undefined) res.setHeader('Mcp-Session-Id', 'chosen \t')
      res.end()
    }
    const { port, pool } = await openScene(worker, options)
    const client = await dial(port)
    client.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n')
    expect(await client.head()).toContain('\r\nMcp-Session-Id: chosen\r\n')
    client.send('GET / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: chosen\r\nConnection: close\r\n\r\n')
    expect(await client.rest()).toContain('HTTP/1.1 200 ')
    expect(pool.acquired[1]).toBe(pool.acquired[0])
  })

  test('is told of with the id that the pool has for it, and by nobody else’s id', async () => {
    const told: AdoptedSession[] = []
    const { ask, pool } = await openMcp({ adopt: { onAdopt: (adopted) => told.push(adopted) } })
    await ask({ 'x-name': 'chosen' })
    await ask({ 'x-name': 'chosen' })
    await ask({ 'x-name': 'no good' })
    await ask()
    expect(told).toEqual([{ sessionId: pool.acquired[0], id: 'chosen', principal: undefined }])
  })

  test('that nobody opened is answered with 404, and nothing is started', async () => {
    const { ask, pool } = await openMcp()
    const response = await ask({ 'mcp-session-id': 'unknown' })
    expect(response.status).toBe(404)
    expect(await response.json()).toMatchObject({ code: 'SESSION_UNKNOWN' })
    expect(pool.acquired).toEqual([])
  })

  test('that is over is answered with 404', async () => {
    const { ask, pool } = await openMcp()
    await ask({ 'x-name': 'chosen' })
    pool.lose(pool.acquired[0] as string)
    expect((await ask({ 'mcp-session-id': 'chosen' })).status).toBe(404)
    expect(pool.acquired).toHaveLength(1)
  })

  test('that is about to end, and takes nobody any more, is answered with 404', async () => {
    const { ask, pool } = await openMcp()
    await ask({ 'x-name': 'chosen' })
    pool.hold()
    expect((await ask({ 'mcp-session-id': 'chosen' })).status).toBe(404)
  })

  test('whose worker chose no id ends with its request', async () => {
    const { ask, pool } = await openMcp()
    expect(await (await ask()).text()).toBe('POST none')
    await pool.until(() => pool.ended.length > 0)
    expect(pool.ended).toEqual(pool.acquired)
  })

  test('whose request the client gave up before the worker named it ends', async () => {
    const asked = signal()
    const { port, pool } = await openScene(() => asked.resolve(), options)
    const client = await dial(port)
    client.send('POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n')
    await asked.promise
    client.socket.destroy()
    await pool.until(() => pool.ended.length > 0)
    expect(pool.ended).toEqual(pool.acquired)
  })

  test('that a worker is granted to only after the client has left ends', async () => {
    const { port, pool } = await openScene(mcpWorker, options)
    pool.hold({ grantsAnyway: true })
    const client = await dial(port)
    client.send('POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n')
    await pool.until(() => pool.acquired.length > 0)
    client.socket.destroy()
    await pool.until(() => pool.aborted > 0)
    pool.grant()
    await pool.until(() => pool.ended.length > 0)
    expect([pool.ended, pool.open]).toEqual([pool.acquired, 0])
  })

  test.each([
    ['DELETE', '/mcp', '200', true],
    ['DELETE', '/mcp?x=1', '204', true],
    ['DELETE', '/mcp', '404', true],
    ['DELETE', '/mcp', '405', false],
    ['DELETE', '/other', '200', false],
    ['POST', '/mcp', '200', false],
  ])('%s %s, answered with %s: ended %s', async (method, path, status, ends) => {
    const { ask, pool } = await openMcp()
    await ask({ 'x-name': 'chosen' })
    await ask({ 'mcp-session-id': 'chosen', 'x-status': status }, method, path)
    await pool.idle()
    const after = await ask({ 'mcp-session-id': 'chosen' })
    expect([pool.ended.length, after.status]).toEqual(ends ? [1, 404] : [0, 200])
  })

  test.each([
    ['taken by a live session', 'chosen'],
    ['malformed', 'not an id'],
    ['endless', 'x'.repeat(2000)],
    ['one of two', 'one, another'],
  ])('whose worker chose an id that is %s is not opened', async (_what, name) => {
    const { ask, pool, failures } = await openMcp()
    await ask({ 'x-name': 'chosen' })
    const response = await ask({ 'x-name': name })
    expect(response.status).toBe(502)
    expect(response.headers.get('mcp-session-id')).toBeNull()
    await pool.until(() => pool.ended.length > 0)
    expect(pool.ended).toEqual([pool.acquired[1]])
    expect(failures.at(-1)).toMatchObject({ code: 'UPSTREAM_FAILED' })
    // The first one still has it.
    expect((await ask({ 'mcp-session-id': 'chosen' })).status).toBe(200)
    expect(pool.acquired.at(-1)).toBe(pool.acquired[0])
  })

  test.each(['another', 'no good', 'chosen, another'])('that has a name is not renamed: %s', async (name) => {
    const { ask, pool, failures } = await openMcp()
    await ask({ 'x-name': 'chosen' })
    const response = await ask({ 'mcp-session-id': 'chosen', 'x-name': name })
    expect([response.status, response.headers.get('mcp-session-id')]).toEqual([502, null])
    expect(failures.at(-1)).toMatchObject({ code: 'UPSTREAM_FAILED' })
    expect((await ask({ 'mcp-session-id': 'chosen', 'x-name': 'chosen' })).status).toBe(200)
    expect(pool.ended).toEqual([])
  })

  test('may be named twice, if the name is the same', async () => {
    const { ask } = await openMcp()
    expect((await ask({ 'x-name': 'chosen, chosen' })).status).toBe(200)
    expect((await ask({ 'mcp-session-id': 'chosen' })).status).toBe(200)
  })

  test('leaves its name to another one as soon as it takes nobody any more', async () => {
    const { ask, pool } = await openMcp()
    await ask({ 'x-name': 'chosen' })
    const [first = ''] = pool.acquired
    pool.beginEnd(first)
    expect((await ask({ 'mcp-session-id': 'chosen' })).status).toBe(404)
    expect((await ask({ 'x-name': 'chosen' })).status).toBe(200)
    pool.end(first)
    expect((await ask({ 'mcp-session-id': 'chosen' })).status).toBe(200)
    expect(pool.acquired.at(-1)).toBe(pool.acquired[1])
  })

  test('is named by heads alone: hints and trailers carry no id', async () => {
    const { port } = await openScene((_req, res) => {
      res.writeEarlyHints({ link: '</a.css>; rel=preload', 'mcp-session-id': 'hinted' })
      res.writeHead(200, { 'mcp-session-id': 'chosen', trailer: 'Mcp-Session-Id, X-Sum' })
      res.write('ok')
      res.addTrailers({ 'Mcp-Session-Id': 'trailed', 'X-Sum': '1' })
      res.end()
    }, options)
    const client = await dial(port)
    client.send('POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
    const answer = (await client.rest()).toLowerCase()
    expect(answer).toContain('http/1.1 103 ')
    expect(answer).toContain('mcp-session-id: chosen')
    expect(answer).toContain('x-sum: 1')
    expect(answer).not.toMatch(/hinted|trailed/)
  })

  test('is named where no cache that is shared keeps it', async () => {
    const { ask } = await openMcp()
    expect((await ask({ 'x-name': 'chosen' })).headers.get('cache-control')).toBe('private')
    expect((await ask({ 'mcp-session-id': 'chosen' })).headers.get('cache-control')).toBe(null)
    // Some workers repeat it.
    const repeated = await ask({ 'mcp-session-id': 'chosen', 'x-name': 'chosen' })
    expect(repeated.headers.get('cache-control')).toBe('private')
  })

  test('belongs to its principal', async () => {
    const tokens = { 'alice-0123456789abcdef': 'alice', 'bob-0123456789abcdef': 'bob' }
    const { ask } = await openMcp({ authorize: bearerToken(tokens) })
    const as = (name: string) => ({ authorization: `Bearer ${name}-0123456789abcdef` })
    await ask({ 'x-name': 'chosen', ...as('alice') })
    expect((await ask({ 'mcp-session-id': 'chosen', ...as('bob') })).status).toBe(404)
    // Two workers may choose the same id for two principals.
    expect((await ask({ 'x-name': 'chosen', ...as('bob') })).status).toBe(200)
    expect((await ask({ 'mcp-session-id': 'chosen', ...as('bob') })).status).toBe(200)
  })

  test('is not renamed by the answer to a handshake', async () => {
    const server = createServer(mcpWorker)
    server.on('upgrade', (_req, socket) => {
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nMcp-Session-Id: another\r\n\r\n',
      )
    })
    const { port, pool } = await openScene(server, options)
    await fetch(`http://127.0.0.1:${port}/mcp`, { method: 'POST', headers: { 'x-name': 'chosen' } })
    const client = await dial(port)
    client.send(
      'GET / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: chosen\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
    )
    expect(await client.head()).toMatch(/^HTTP\/1\.1 502 /)
    await pool.idle()
    expect(pool.ended).toEqual([])
  })

  test('cannot be opened by a WebSocket', async () => {
    const { port, pool } = await openScene(mcpWorker, options)
    const client = await dial(port)
    client.send(
      'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
    )
    expect(await client.head()).toMatch(/^HTTP\/1\.1 400 /)
    expect(pool.acquired).toEqual([])
  })
})

test('adopt needs a header, and nothing beside it', async () => {
  const open = (more: object) => openScene(mcpWorker, more)
  await expect(open({ sessionId: fromQuery('sid'), adopt: true })).rejects.toThrow('"adopt"')
  await expect(open({ ...options, issue: true })).rejects.toThrow('nothing beside issue')
  await expect(open({ ...options, adopt: { header: 'no good' } })).rejects.toThrow('"adopt.header"')
  await expect(open({ ...options, adopt: { header: 'Host' } })).rejects.toThrow('"adopt.header"')
  await expect(open({ ...options, adopt: { onAdopt: 1 } })).rejects.toThrow('"adopt.onAdopt"')
  const two = [fromHeader('a'), fromHeader('b')]
  await expect(open({ sessionId: two, adopt: true })).rejects.toThrow('expected one fromHeader among sessionId')
  await open({ sessionId: two, adopt: { header: 'b' } })
  await open({ sessionId: [fromHeader('a'), fromHeader('A')], adopt: true })
})
