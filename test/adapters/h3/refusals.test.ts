import type { IncomingMessage } from 'node:http'
import { request } from 'node:http'
import { once } from 'node:events'
import { describe, expect, test } from 'vitest'
import {
  AcquireTimeoutError,
  CorralError,
  InvalidOptionError,
  PoolClosedError,
  QueueFullError,
  WorkerStartError,
} from 'corral'
import { fromPath } from 'corral/h3'
import { dial, fieldsOf, get, openScene, textOf } from './_scene.ts'

const plain = 'GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n'

describe('the pool refuses', () => {
  const failure = {
    code: 'WORKER_START_FAILED',
    message: 'secret',
    exitCode: 1,
    signal: null,
    output: ['secret'],
  } as const
  const cases: [Error, number, string, boolean][] = [
    [new QueueFullError('red', 3), 503, 'QUEUE_FULL', true],
    [new AcquireTimeoutError('red', 3), 503, 'ACQUIRE_TIMEOUT', true],
    [new WorkerStartError(failure), 503, 'WORKER_START_FAILED', true],
    [new WorkerStartError({ ...failure, code: 'WORKER_START_TIMEOUT' }), 503, 'WORKER_START_TIMEOUT', true],
    [new PoolClosedError('POOL_DRAINING'), 503, 'POOL_DRAINING', false],
    [new PoolClosedError('POOL_CLOSED'), 503, 'POOL_CLOSED', false],
    [new CorralError('SESSION_LOST', 'secret'), 502, 'SESSION_LOST', false],
    [new InvalidOptionError('id', 'secret', 'secret'), 400, 'SESSION_ID_INVALID', false],
    [new Error('secret /etc/passwd'), 500, 'INTERNAL_ERROR', false],
  ]

  test.each(cases)('%s → %i %s', async (error, status, code, retry) => {
    const { port, pool, failures } = await openScene(() => {}, { retryAfter: 1_500 })
    pool.refusal = error
    const response = await get(port, '/')
    expect(response.status).toBe(status)
    expect(response.headers.get('retry-after')).toBe(retry ? '2' : null)
    expect(response.headers.get('cache-control')).toBe('no-store')
    const text = await response.text()
    expect(JSON.parse(text)).toMatchObject({ status, code, type: expect.stringMatching(/^urn:corral:problem:/) })
    expect(text).not.toContain('secret')
    expect(failures[0]?.cause).toBe(error)
  })

  test('HEAD gets the status and no content', async () => {
    const { port, pool } = await openScene(() => {})
    pool.refusal = new QueueFullError('red', 3)
    const client = await dial(port)
    client.send('HEAD / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: close\r\n\r\n')
    expect(await client.rest()).toMatch(/^HTTP\/1\.1 503 [^]*\r\n\r\n$/)
  })

  test('the rest of a small upload is dropped, and the connection stays in step', async () => {
    const { port, pool } = await openScene((_req, res) => res.end('ok'))
    pool.refusal = new QueueFullError('red', 3)
    const client = await dial(port)
    client.send('POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nContent-Length: 300000\r\n\r\n')
    expect(await client.head()).toMatch(/^HTTP\/1\.1 503/)
    await client.take('"QUEUE_FULL"}')
    pool.refusal = undefined
    client.send('x'.repeat(300_000))
    client.send(plain)
    expect(await client.head()).toMatch(/^HTTP\/1\.1 200/)
  })

  test('the rest of a large upload costs the connection', async () => {
    const { port, pool } = await openScene(() => {})
    pool.refusal = new QueueFullError('red', 3)
    const client = await dial(port)
    client.send('POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nTransfer-Encoding: chunked\r\n\r\n')
    await client.take('"QUEUE_FULL"}')
    const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`
    const pump = () => {
      while (!client.socket.destroyed && client.socket.write(chunk));
      client.socket.once('drain', pump)
    }
    pump()
    client.socket.on('end', () => client.socket.destroy())
    await once(client.socket, 'close')
    expect(pool.granted).toBe(0)
  })
})

describe('the request is refused', () => {
  test.each([
    ['two Host fields', 'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nX-Session-Id: red\r\nConnection: close\r\n\r\n'],
    ['authority-form', 'GET example.org:80 HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: close\r\n\r\n'],
    ['asterisk-form', 'GET * HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: close\r\n\r\n'],
    [
      'two Host fields in a handshake',
      'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nX-Session-Id: red\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
    ],
  ])('for %s with 400, before a worker is asked for', async (_name, text) => {
    const { port, pool } = await openScene((_req, res) => res.end())
    const client = await dial(port)
    client.send(text)
    expect(await client.rest()).toMatch(/^HTTP\/1\.1 400 /)
    expect(pool.acquired).toEqual([])
  })

  test.each(['GET /', 'GET /s/red/x', 'GET / HTTP/0.9'])(
    'for %j, which is of another version, with 505, whether it names a session or not',
    async (line) => {
      const { port, pool } = await openScene((_req, res) => res.end(), { sessionId: fromPath() })
      const client = await dial(port)
      client.send(`${line}\r\n\r\n`)
      expect(await client.rest()).toMatch(/^HTTP\/1\.1 505 [^]*HTTP_VERSION_UNSUPPORTED/)
      expect(pool.acquired).toEqual([])
    },
  )

  test('for a transfer coding besides chunked with 501, before a worker is asked for', async () => {
    const { port, pool } = await openScene((_req, res) => res.end())
    const client = await dial(port)
    client.send(
      'POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n',
    )
    expect(await client.rest()).toMatch(/^HTTP\/1\.1 501 [^]*TRANSFER_CODING_UNSUPPORTED/)
    expect(pool.acquired).toEqual([])
  })

  test('outside the base with 400', async () => {
    const { port } = await openScene((req, res) => res.end(req.url), { base: '/tools', sessionId: fromPath() })
    expect(await (await get(port, '/tools/s/red/x?y')).text()).toBe('/x?y')
    expect((await get(port, '/other/s/red/x')).status).toBe(400)
    expect((await get(port, '/toolsx/s/red/x')).status).toBe(400)
  })
})

describe('Expect: 100-continue', () => {
  const expecting =
    'POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n'

  test('is answered once a worker is there, and not passed on', async () => {
    const { port, pool } = await openScene(async (req, res) => res.end(`${req.headers.expect} ${await textOf(req)}`))
    pool.hold()
    const client = await dial(port)
    client.send(expecting)
    await pool.until(() => pool.acquired.length === 1)
    expect(client.received).toBe('')
    pool.grant()
    expect(await client.head()).toBe('HTTP/1.1 100 Continue\r\n\r\n')
    client.send('body')
    expect(fieldsOf(await client.head())['content-length']).toEqual(['14'])
    expect(await client.takeBytes(14)).toBe('undefined body')
  })

  test('gets a refusal without 100, and the connection is closed', async () => {
    const { port, pool } = await openScene(() => {})
    pool.refusal = new QueueFullError('red', 3)
    const client = await dial(port)
    client.send(expecting)
    const answer = await client.rest()
    expect(answer).toMatch(/^HTTP\/1\.1 503 /)
    expect(fieldsOf(answer.split('\r\n\r\n')[0] ?? '').connection).toEqual(['close'])
  })

  test('works with a client of Node', async () => {
    const { port } = await openScene(async (req, res) => res.end(await textOf(req)))
    const req = request({
      port,
      method: 'POST',
      headers: { 'x-session-id': 'red', expect: '100-continue', 'content-length': 4 },
    })
    req.flushHeaders()
    await once(req, 'continue')
    req.end('body')
    const [res] = (await once(req, 'response')) as [IncomingMessage]
    expect(await textOf(res)).toBe('body')
  })
})
