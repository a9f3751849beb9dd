import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { GatewayFailure } from 'corral/h3'
import { FakePool } from './_pool.ts'
import type { Handler } from './_scene.ts'
import { dial, get, listenOn, openGateway, openScene, rawWorker, signal, textOf } from './_scene.ts'

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

  test.each([
    ['a port', () => undefined],
    ['a socket', () => join(mkdtempSync(join(tmpdir(), 'early-')), 's')],
  ])('and closes its connection at %s, has its answer read, wherever the upload is by then', async (_what, pathOf) => {
    const path = pathOf()
    if (path !== undefined) onTestFinished(() => rmSync(dirname(path), { recursive: true }))
    const worker = createServer((req, res) => {
      for (const side of [req, res]) side.on('error', () => {})
      res.writeHead(413, { 'content-length': 3, connection: 'close' }).end('big')
    })
    const workerPort = await listenOn(worker, path)
    const address = path === undefined ? { host: '127.0.0.1', port: workerPort } : { socketPath: path }
    const { port } = await openGateway(new FakePool(address))
    const answers: string[] = []
    for (let upload = 0; upload < 20; upload++) {
      const client = await dial(port)
      const size = 20_000 * (upload + 1)
      client.send(
        `POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nContent-Length: ${size}\r\n\r\n${'x'.repeat(size)}`,
      )
      answers.push(`${(await client.head()).slice(0, 12)} ${await client.takeBytes(3)}`)
    }
    expect(new Set(answers)).toEqual(new Set(['HTTP/1.1 413 big']))
  })
})
