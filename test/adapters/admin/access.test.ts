import { once } from 'node:events'
import { STATUS_CODES, createServer } from 'node:http'
import type { Socket } from 'node:net'
import { networkInterfaces } from 'node:os'
import { toNodeHandler } from 'h3'
import { createAdmin } from 'corral/admin'
import { describe, expect, onTestFinished, test } from 'vitest'
import { dial } from '../h3/_scene.ts'
import { openAdmin, send, token } from './_admin.ts'

const open = [
  ['GET', '/healthz'],
  ['GET', '/readyz'],
  ['GET', '/stats'],
  ['GET', '/openapi.json'],
] as const
const lists = [
  ['GET', '/sessions'],
  ['GET', '/sessions/red'],
  ['GET', '/workers'],
  ['GET', '/workers/w1'],
] as const
const changes = [
  ['DELETE', '/sessions/red'],
  ['POST', '/workers/w1/drain'],
] as const

describe('with a token', () => {
  test.each(open)('%s %s needs none', async (method, path) => {
    const { stranger } = await openAdmin()
    expect(await stranger(method, path)).toMatchObject({ status: 200 })
  })

  test.each([...lists, ...changes])('%s %s needs it', async (method, path) => {
    const { stranger, call, pool, acquire } = await openAdmin()
    const lease = await acquire('red')
    lease.release()
    const without = await stranger(method, path)
    expect(without).toMatchObject({ status: 401, json: { code: 'TOKEN_REQUIRED' } })
    expect(without.headers['www-authenticate']).toBe('Bearer realm="corral"')
    for (const given of ['x', `${token}x`, token.slice(0, -1), token.toUpperCase()]) {
      const wrong = await stranger(method, path, { headers: { authorization: `Bearer ${given}` } })
      expect(wrong).toMatchObject({ status: 401, json: { code: 'TOKEN_REQUIRED' } })
      expect(wrong.headers['www-authenticate']).toBe('Bearer realm="corral", error="invalid_token"')
    }
    for (const authorization of [`Basic ${token}`, token, `Bearer ${token} ${token}`, 'Bearer']) {
      expect(await stranger(method, path, { headers: { authorization } })).toMatchObject({ status: 401 })
    }
    expect(pool.sessions()).toHaveLength(1)
    expect(pool.stats().workers).toMatchObject({ leased: 1, draining: 0 })
    expect((await call(method, path)).status).toBeLessThan(300)
  })

  test('a stranger learns nothing of which ids there are', async () => {
    const { stranger, acquire } = await openAdmin()
    using lease = await acquire('red')
    expect(await stranger('GET', `/sessions/${lease.session.id}`)).toMatchObject({ status: 401 })
    expect(await stranger('GET', '/sessions/blue')).toMatchObject({ status: 401 })
  })

  test('the scheme is spelt in any case', async () => {
    const { stranger } = await openAdmin()
    expect(await stranger('GET', '/workers', { headers: { authorization: `bearer ${token}` } })).toMatchObject({
      status: 200,
    })
  })

  test('the body of whoever has none is not read', async () => {
    const { stranger } = await openAdmin()
    const answer = await stranger('POST', '/workers/w1/drain', { body: 'x'.repeat(1_000_000) })
    expect(answer).toMatchObject({ status: 401 })
  })
})

describe('without a token', () => {
  test.each([...open, ...lists])('%s %s is open to this machine', async (method, path) => {
    const { stranger, acquire } = await openAdmin({ token: undefined })
    using lease = await acquire('red')
    expect(lease.session.id).toBe('red')
    expect(await stranger(method, path)).toMatchObject({ status: 200 })
  })

  test.each(changes)('%s %s is refused', async (method, path) => {
    const { stranger, acquire, pool } = await openAdmin({ token: undefined })
    using lease = await acquire('red')
    expect(lease.session.id).toBe('red')
    for (const headers of [{}, { authorization: 'Bearer ' }, { authorization: `Bearer ${token}` }]) {
      const answer = await stranger(method, path, { headers })
      expect(answer).toMatchObject({ status: 403, json: { code: 'TOKEN_NOT_CONFIGURED' } })
    }
    expect(pool.sessions()).toMatchObject([{ state: 'active' }])
  })

  test('ids are not shown to other machines', async () => {
    const { pool } = await openAdmin()
    const address = Object.values(networkInterfaces())
      .flatMap((all) => all ?? [])
      .find(({ internal, family }) => !internal && family === 'IPv4')?.address
    const handler = toNodeHandler(createAdmin(pool).app)
    // Where there is no other address, the one of the connection is taken for another.
    const server = createServer((req, res) => {
      if (address === undefined) Object.defineProperty(req.socket, 'remoteAddress', { value: '192.0.2.1' })
      void handler(req, res)
    })
    await new Promise<void>((resolve) => {
      server.listen(0, resolve)
    })
    onTestFinished(() => void server.close())
    const { port } = server.address() as { port: number }
    const get = (path: string) => fetch(`http://${address ?? '127.0.0.1'}:${port}${path}`)
    expect((await get('/healthz')).status).toBe(200)
    const answer = await get('/sessions')
    expect(answer.status).toBe(403)
    expect(await answer.json()).toMatchObject({ code: 'TOKEN_NOT_CONFIGURED' })
  })
})

describe('against DNS rebinding', () => {
  test.each([
    '127.0.0.1',
    '127.0.0.1:8081',
    '[::1]',
    '[::1]:1',
    '10.0.0.7',
    'localhost',
    'LOCALHOST:9',
    'admin.internal',
  ])('the host %s is served', async (host) => {
    const { listener } = await openAdmin({ hosts: ['Admin.internal'] })
    expect(await send(listener.port, 'GET', '/healthz', { headers: { host } })).toMatchObject({ status: 200 })
  })

  test.each([
    'evil.example',
    'localhost.evil.example',
    'evil.localhost',
    '127.0.0.1.evil.example',
    '0x7f.1',
    '::1',
    '[::1',
    '[evil.example]',
    'evil.example@127.0.0.1',
    'admin.internal.',
    'localhost:99999',
    '127.0.0.1:x',
  ])('the host %j is refused', async (host) => {
    const { listener } = await openAdmin({ hosts: ['admin.internal'] })
    for (const path of ['/healthz', '/stats', '/nothing']) {
      const answer = await send(listener.port, 'GET', path, { headers: { host } })
      expect(answer).toMatchObject({ status: 403, json: { code: 'HOST_REFUSED' } })
    }
  })

  test.each(['http://evil.example', 'null', 'http://127.0.0.1:1', 'http://localhost.evil.example', ''])(
    'a page of %j is refused',
    async (origin) => {
      const { call, pool } = await openAdmin()
      const answer = await call('POST', '/workers/w1/drain', { headers: { origin } })
      expect(answer).toMatchObject({ status: 403, json: { code: 'ORIGIN_REFUSED' } })
      expect(answer.headers).not.toHaveProperty('access-control-allow-origin')
      expect(pool.stats().workers.draining).toBe(0)
    },
  )

  test.each([
    ['GET http://evil.example/stats HTTP/1.1\r\nHost: 127.0.0.1', 403],
    ['GET http://127.0.0.1/stats HTTP/1.1\r\nHost: evil.example', 403],
    ['GET http://127.0.0.1/stats HTTP/1.1\r\nHost: 127.0.0.1', 200],
    ['GET /stats HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example', 400],
    ['GET /stats HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1', 400],
    ['GET /stats HTTP/1.1\r\nX-Forwarded-Host: evil.example\r\nHost: 127.0.0.1', 200],
    ['GET /stats HTTP/1.1\r\nX: y', 400],
    ['GET /stats HTTP/1.0', 200],
    ['GET stats HTTP/1.1\r\nHost: 127.0.0.1', 400],
    ['POST /workers/w1/drain HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked', 400],
    ['CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1', 400],
    ['GET /stats HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: more', 417],
    [`GET /stats HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ${'y'.repeat(20_000)}`, 431],
    ['GET /stats HTTP/1.9\r\nHost: 127.0.0.1', 505],
  ])('%j is answered with %i', async (head, status) => {
    const { listener } = await openAdmin()
    const client = await dial(listener.port)
    client.send(`${head}\r\nConnection: close\r\n\r\n`)
    const answer = await client.rest()
    // With a reason to read, whatever the answer is, and with a problem where it is one.
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n`))
    if (status !== 200) expect(answer).toMatch(/content-type: application\/problem\+json[^]*"code":"[A-Z_]+"/i)
  })

  test('a client that resets the connection of a CONNECT ends nothing', async () => {
    const { listener, stranger } = await openAdmin()
    const refused = once(listener.server, 'connect') as Promise<[unknown, Socket]>
    const client = await dial(listener.port)
    client.send('CONNECT a:1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n')
    const [, socket] = await refused
    socket.emit('error', Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }))
    client.socket.resetAndDestroy()
    expect(await stranger('GET', '/healthz')).toMatchObject({ status: 200 })
  })

  test('a page of the API itself is served, and none that has its host, but came another way', async () => {
    const { call, listener } = await openAdmin()
    const ask = (origin: string) => call('GET', '/sessions', { headers: { origin } })
    expect(await ask(listener.url)).toMatchObject({ status: 200 })
    expect(await ask(listener.url.replace('http:', 'https:'))).toMatchObject({ status: 403 })
  })
})
