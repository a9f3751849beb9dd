import type { IncomingMessage } from 'node:http'
import { request } from 'node:http'
import { connect } from 'node:net'
import { once } from 'node:events'
import { describe, expect, onTestFinished, test } from 'vitest'
import {
  AcquireTimeoutError,
  CorralError,
  InvalidOptionError,
  PoolClosedError,
  QueueFullError,
  WorkerStartError,
} from 'corral'
import { fromPath } from 'corral/h3'
import type { GatewayFailure } from 'corral/h3'
import { FakePool } from './_pool.ts'
import type { Handler, RawConnection } from './_scene.ts'
import { dial, fieldsOf, get, listenOn, openGateway, openScene, rawWorker, signal, textOf } from './_scene.ts'

const plain = 'GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n'

describe('the client leaves', () => {
  test('while it waits for a worker: the acquire is aborted', async () => {
    const { port, pool } = await openScene(() => {})
    pool.hold()
    const client = await dial(port)
    client.send(plain)
    await pool.until(() => pool.acquired.length === 1)
    client.socket.destroy()
    await pool.until(() => pool.aborted === 1)
    expect(pool.granted).toBe(0)
  })

  test('just before it is granted a lease: the lease is given back', async () => {
    const { port, pool } = await openScene((_req, res) => res.end())
    pool.hold({ grantsAnyway: true })
    const client = await dial(port)
    client.send(plain)
    await pool.until(() => pool.acquired.length === 1)
    client.socket.destroy()
    await pool.until(() => pool.aborted === 1)
    pool.grant()
    await pool.until(() => pool.granted === 1)
    expect(await pool.idle()).toBe(0)
  })

  test('before the response: the request to the worker is aborted', async () => {
    const arrived = signal<IncomingMessage>()
    const { port, pool } = await openScene((req) => arrived.resolve(req))
    const client = await dial(port)
    client.send(plain)
    const req = await arrived.promise
    const closed = once(req.socket, 'close')
    client.socket.destroy()
    await closed
    expect(await pool.idle()).toBe(0)
  })

  test('within the response: the request to the worker is aborted', async () => {
    const arrived = signal<IncomingMessage>()
    const { port, pool } = await openScene((req, res) => {
      res.write('begun')
      arrived.resolve(req)
    })
    const client = await dial(port)
    client.send(plain)
    await client.take('begun')
    const req = await arrived.promise
    const closed = once(req.socket, 'close')
    client.socket.destroy()
    await closed
    expect(await pool.idle()).toBe(0)
  })

  test('within its upload: the request to the worker is aborted, not ended', async () => {
    const failed = signal<unknown>()
    const arrived = signal()
    const { port, pool } = await openScene(async (req) => {
      req.once('data', () => arrived.resolve())
      try {
        await textOf(req)
        failed.resolve('ended')
      } catch (error) {
        failed.resolve((error as NodeJS.ErrnoException).code)
      }
    })
    const client = await dial(port)
    client.send('POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n')
    await arrived.promise
    client.socket.destroy()
    expect(await failed.promise).toBe('ECONNRESET')
    expect(await pool.idle()).toBe(0)
  })

  test('aborted requests leave no connections to the worker behind', async () => {
    const open = new Set<object>()
    const changed: (() => void)[] = []
    let accepted = 0
    const worker = rawWorker(async ({ socket }) => {
      accepted++
      open.add(socket)
      await once(socket, 'end')
      socket.destroy()
      await once(socket, 'close')
      open.delete(socket)
      for (const resolve of changed.splice(0)) resolve()
    })
    const { port, pool } = await openScene(worker)
    for (let i = 0; i < 3; i++) {
      const arrived = once(worker, 'connection')
      const client = await dial(port)
      client.send(plain)
      await arrived
      client.socket.destroy()
      await pool.idle()
    }
    while (open.size > 0) await new Promise<void>((resolve) => changed.push(resolve))
    expect(accepted).toBe(3)
  })
})

describe('the worker fails', () => {
  test('before the response: 502, and the session is told as lost when the pool says so', async () => {
    const { port, pool, failures } = await openScene((req) => {
      req.socket.destroy()
      pool.lose('red')
    })
    const response = await fetch(`http://127.0.0.1:${port}/`, {
      method: 'POST',
      body: 'x',
      headers: { 'x-session-id': 'red' },
    })
    expect(response.status).toBe(502)
    const text = await response.text()
    expect(JSON.parse(text)).toMatchObject({ status: 502, code: 'SESSION_LOST' })
    expect(text).not.toContain('secret')
    expect(failures).toMatchObject([{ code: 'SESSION_LOST', status: 502, sessionId: 'red', method: 'POST' }])
    expect(String(failures[0]?.cause)).toContain('secret internals')
    expect(await pool.idle()).toBe(0)
  })

  test('without dying: 502 UPSTREAM_FAILED, with no address in it', async () => {
    const { port, pool } = await openScene((req) => req.socket.destroy())
    const response = await get(port, '/')
    expect(response.status).toBe(502)
    expect(response.headers.get('content-type')).toBe('application/problem+json')
    const text = await response.text()
    expect(JSON.parse(text)).toEqual({
      type: 'urn:corral:problem:upstream-failed',
      title: 'The worker did not answer properly',
      status: 502,
      code: 'UPSTREAM_FAILED',
    })
    expect(await pool.idle()).toBe(0)
  })

  test('for many at once: 502 each, and nothing that looks like a leak', async () => {
    const warnings: Error[] = []
    const warn = (warning: Error) => warnings.push(warning)
    process.on('warning', warn)
    onTestFinished(() => void process.off('warning', warn))
    const { port, pool } = await openScene((req) => req.socket.destroy())
    const responses = await Promise.all(Array.from({ length: 20 }, () => get(port, '/')))
    expect(new Set(responses.map(({ status }) => status))).toEqual(new Set([502]))
    expect(await pool.idle()).toBe(0)
    expect(warnings).toEqual([])
  })

  test('by not listening: 502', async () => {
    const pool = new FakePool({ host: '127.0.0.1', port: 1 })
    const { port } = await openGateway(pool)
    expect((await get(port, '/')).status).toBe(502)
    expect(await pool.idle()).toBe(0)
  })

  test('by answering nonsense: 502', async () => {
    const worker = rawWorker(async (connection) => {
      await connection.head()
      connection.send('SSH-2.0-OpenSSH_9.6\r\n')
    })
    const { port } = await openScene(worker)
    expect((await get(port, '/')).status).toBe(502)
  })

  test('by not answering in time: 504', async () => {
    const { port, pool } = await openScene(() => {}, { upstream: { headersTimeout: 50 } })
    const response = await get(port, '/')
    expect(response.status).toBe(504)
    expect(await response.json()).toMatchObject({ code: 'UPSTREAM_TIMEOUT' })
    expect(await pool.idle()).toBe(0)
  })

  test('within a chunked response: the connection is cut', async () => {
    const failure = signal<GatewayFailure>()
    const worker: Handler = (req, res) => {
      res.write('half')
      setImmediate(() => req.socket.destroy())
    }
    const { port, pool } = await openScene(worker, { onError: failure.resolve })
    const client = await dial(port)
    client.send(plain)
    expect(await client.rest()).toMatch(/4\r\nhalf\r\n$/)
    await pool.idle()
    expect(await failure.promise).toMatchObject({ code: 'UPSTREAM_FAILED', status: undefined, sessionId: 'red' })
  })

  test('within a response of known length: the connection is cut', async () => {
    const { port } = await openScene((req, res) => {
      res.writeHead(200, { 'content-length': 100 })
      res.write('half')
      setImmediate(() => req.socket.destroy())
    })
    const response = await get(port, '/')
    expect(response.status).toBe(200)
    await expect(response.text()).rejects.toThrow('terminated')
  })

  test('the session ends within a response: the connection is cut', async () => {
    const { port, pool } = await openScene((_req, res) => res.write('half'))
    const client = await dial(port)
    client.send(plain)
    await client.take('half')
    pool.end('red')
    expect(await client.rest()).not.toContain('0\r\n\r\n')
    expect(await pool.idle()).toBe(0)
  })

  test('the session ends before the response: 502 SESSION_ENDED', async () => {
    const { port, pool } = await openScene(() => pool.end('red'))
    const response = await get(port, '/')
    expect(response.status).toBe(502)
    expect(await response.json()).toMatchObject({ code: 'SESSION_ENDED' })
  })

  test('the next session of the same id is served by its own connections', async () => {
    const { port, pool } = await openScene((_req, res) => res.end('first'))
    expect(await (await get(port, '/')).text()).toBe('first')
    const second = await listenOn(
      rawWorker(async (connection) => {
        await connection.head()
        connection.send('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond')
      }),
    )
    pool.lose('red')
    pool.address = { host: '127.0.0.1', port: second }
    expect(await (await get(port, '/')).text()).toBe('second')
  })
})

describe('a close-delimited response', () => {
  const head = 'HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n'

  test('ends when the worker closes and lives', async () => {
    const worker = rawWorker(async (connection) => {
      await connection.head()
      connection.send(`${head}all of it`)
      connection.socket.end()
    })
    const { port, pool } = await openScene(worker)
    expect(await (await get(port, '/')).text()).toBe('all of it')
    expect(await pool.idle()).toBe(0)
  })

  test('is cut when the worker closes and does not accept connections any more', async () => {
    const worker = rawWorker(async (connection) => {
      await connection.head()
      connection.send(`${head}some of it`)
      worker.close()
      connection.socket.end()
    })
    const { port, pool } = await openScene(worker)
    await expect((async () => (await get(port, '/')).text())()).rejects.toThrow('terminated')
    expect(await pool.idle()).toBe(0)
  })

  test('is cut when the worker closes, and what it accepts after that is reset, as a dying process does', async () => {
    let accepted = 0
    const worker = rawWorker(async (connection) => {
      if (accepted++ > 0) {
        // Sooner than the gateway looks again, and not before it has seen that it was accepted.
        setTimeout(() => connection.socket.resetAndDestroy(), 10)
        return
      }
      await connection.head()
      connection.send(`${head}some of it`)
      connection.socket.end()
    })
    const { port, pool } = await openScene(worker)
    await expect((async () => (await get(port, '/')).text())()).rejects.toThrow('terminated')
    expect(accepted).toBe(2)
    expect(await pool.idle()).toBe(0)
  })

  test('ends when the worker closes the next connection, too, and politely', async () => {
    let accepted = 0
    const worker = rawWorker(async (connection) => {
      if (accepted++ > 0) {
        connection.socket.end()
        return
      }
      await connection.head()
      connection.send(`${head}all of it`)
      connection.socket.end()
    })
    const { port, pool } = await openScene(worker)
    expect(await (await get(port, '/')).text()).toBe('all of it')
    expect(accepted).toBe(2)
    expect(await pool.idle()).toBe(0)
  })

  test('is cut when the session was lost', async () => {
    const worker = rawWorker(async (connection) => {
      await connection.head()
      connection.send(`${head}some of it`)
    })
    const { port, pool } = await openScene(worker)
    const client = await dial(port)
    client.send(plain)
    await client.take('some of it')
    pool.lose('red')
    expect(await client.rest()).not.toContain('0\r\n\r\n')
    expect(await pool.idle()).toBe(0)
  })

  test('is cut when the worker resets the connection', async () => {
    const sent = signal<RawConnection>()
    const worker = rawWorker(async (connection) => {
      await connection.head()
      connection.send(`${head}some of it`)
      sent.resolve(connection)
      await connection.rest()
    })
    const { port, pool } = await openScene(worker)
    const client = await dial(port)
    client.send(plain)
    await client.take('some of it')
    ;(await sent.promise).socket.resetAndDestroy()
    expect(await client.rest()).not.toContain('0\r\n\r\n')
    expect(await pool.idle()).toBe(0)
  })

  test('cut towards an HTTP/1.0 client is a reset, as a close would look complete', async () => {
    const { port, pool } = await openScene((req, res) => {
      res.write('half')
      void pool.until(() => false)
      arrived.resolve(req)
    })
    const arrived = signal<IncomingMessage>()
    const socket = connect(port, '127.0.0.1')
    socket.write('GET / HTTP/1.0\r\nX-Session-Id: red\r\n\r\n')
    const error = new Promise<NodeJS.ErrnoException>((resolve) => socket.once('error', resolve))
    await new Promise<void>((resolve) =>
      socket.on('data', (data) => {
        if (data.toString().includes('half')) resolve()
      }),
    )
    ;(await arrived.promise).socket.destroy()
    expect((await error).code).toBe('ECONNRESET')
    expect(await pool.idle()).toBe(0)
  })
})

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

describe('a worker that answers early', () => {
  test('gets no more of the upload, and the client its answer on a connection in step', async () => {
    const { port, pool } = await openScene((req, res) => {
      if (req.method === 'GET') {
        res.end('ok')
        return
      }
      res.writeHead(413, { 'content-length': 3, connection: 'close' }).end('big')
    })
    const client = await dial(port)
    client.send('POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nContent-Length: 100000\r\n\r\nxxxx')
    expect(await client.head()).toMatch(/^HTTP\/1\.1 413/)
    expect(await client.takeBytes(3)).toBe('big')
    await pool.idle()
    client.send('x'.repeat(99_996))
    client.send(plain)
    expect(await client.head()).toMatch(/^HTTP\/1\.1 200/)
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
