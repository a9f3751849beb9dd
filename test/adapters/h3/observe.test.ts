import { describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { createServer } from 'node:http'
import type { Socket } from 'node:net'
import { once } from 'node:events'
import type { GatewayOptions, RequestRecord } from 'corral/h3'
import { QueueFullError } from 'corral'
import type { Handler } from './_scene.ts'
import { dial, fieldsOf, get, openScene, rawWorker, signal } from './_scene.ts'

/** A scene whose records come one at a time. */
async function observed(worker: Handler | Parameters<typeof openScene>[0], options: Partial<GatewayOptions> = {}) {
  const records: RequestRecord[] = []
  const waiting: ((record: RequestRecord) => void)[] = []
  const scene = await openScene(worker, {
    onRequest: (record) => {
      const next = waiting.shift()
      if (next === undefined) records.push(record)
      else next(record)
    },
    ...options,
  })
  const next = () => {
    const record = records.shift()
    return record === undefined
      ? new Promise<RequestRecord>((resolve) => waiting.push(resolve))
      : Promise.resolve(record)
  }
  return { ...scene, next }
}

describe('onRequest is told, once each,', () => {
  test.each(['Content-Length: 9', 'Transfer-Encoding: chunked'])(
    'of an upload that its client breaks off (%s), which is no malformed request besides',
    async (field) => {
      const arrived = signal()
      const { port, next, failures } = await observed((req) => void req.once('data', () => arrived.resolve()))
      const client = await dial(port)
      client.send(`POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n${field}\r\n\r\n3\r\nabc\r\n`)
      await arrived.promise
      client.socket.end()
      expect(await next()).toMatchObject({ outcome: 'left', status: undefined })
      expect(await client.rest()).toMatch(/^HTTP\/1\.1 400 /)
      expect(failures).toEqual([])
    },
  )

  test('of OPTIONS *, which the gateway answers itself', async () => {
    const { port, next } = await observed(() => {})
    const client = await dial(port)
    client.send('OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
    expect(await client.head()).toMatch(/^HTTP\/1\.1 204 /)
    expect(await next()).toMatchObject({ outcome: 'answered', status: 204, code: undefined, sessionId: undefined })
  })

  test('of a request that was answered', async () => {
    const { port, next, gateway } = await observed((req, res) => {
      req.resume()
      req.on('end', () => {
        res.writeHead(201)
        res.write('12345')
        res.end('67890')
      })
    })
    const before = Date.now()
    const response = await fetch(`http://127.0.0.1:${port}/path?q=1`, {
      method: 'POST',
      headers: { 'x-session-id': 'red' },
      body: 'abc',
    })
    expect(await response.text()).toBe('1234567890')
    const record = await next()
    expect(record).toMatchObject({
      kind: 'http',
      outcome: 'answered',
      status: 201,
      code: undefined,
      method: 'POST',
      target: '/path?q=1',
      sessionId: 'red',
      address: '127.0.0.1',
      workerId: 'w1',
      bytesIn: 3,
      bytesOut: 10,
    })
    expect(record.startedAt).toBeGreaterThanOrEqual(before - 1)
    expect(record.wait).toBeLessThanOrEqual(record.duration)
    expect(gateway.stats()).toEqual({ requests: 0, webSockets: 0 })
  })

  test('of a streamed upload, with all of its bytes', async () => {
    const { port, next } = await observed((req, res) => {
      req.resume().on('end', () => res.end('ok'))
    })
    const client = await dial(port)
    client.send('POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n')
    client.send('5\r\nabcde\r\n0\r\n\r\n')
    await client.take('ok')
    expect(await next()).toMatchObject({ outcome: 'answered', status: 200, bytesIn: 8, bytesOut: 2 })
  })

  test('of a request that was refused before it had a session', async () => {
    const { port, next } = await observed(() => {})
    await get(port, '/', { 'x-session-id': 'no good' })
    expect(await next()).toMatchObject({
      outcome: 'refused',
      status: 400,
      code: 'SESSION_ID_INVALID',
      sessionId: undefined,
      workerId: undefined,
      wait: undefined,
    })
  })

  test('of a request that the pool refused', async () => {
    const { port, pool, next } = await observed(() => {})
    pool.refusal = new QueueFullError('red', 1)
    await get(port, '/')
    expect(await next()).toMatchObject({ outcome: 'refused', status: 503, code: 'QUEUE_FULL', sessionId: 'red' })
  })

  test('of a response that was cut, with the reason', async () => {
    const { port, pool, next } = await observed((_req, res) => {
      res.write('begun')
    })
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
    await client.take('begun')
    pool.lose('red')
    expect(await next()).toMatchObject({ outcome: 'cut', status: 200, code: 'SESSION_LOST', bytesOut: 5 })
  })

  test('of a client that left', async () => {
    const { port, next, gateway } = await observed((_req, res) => {
      res.write('begun')
    })
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
    await client.take('begun')
    expect(gateway.stats()).toEqual({ requests: 1, webSockets: 0 })
    client.socket.destroy()
    expect(await next()).toMatchObject({ outcome: 'left', status: 200, code: undefined })
    expect(gateway.stats()).toEqual({ requests: 0, webSockets: 0 })
  })

  test('of a client that left while it waited for a worker', async () => {
    const { port, pool, next } = await observed(() => {})
    pool.hold()
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
    await pool.until(() => pool.acquired.length > 0)
    client.socket.destroy()
    expect(await next()).toMatchObject({ outcome: 'left', status: undefined, wait: undefined })
  })

  test('of a WebSocket that is reset before the answer to its handshake has left: none of its bytes are negative', async () => {
    const http = createServer()
    const chat = new WebSocketServer({ server: http })
    onTestFinished(() => chat.close())
    const { port, next, listener } = await observed(http)
    const joined = signal<Socket>()
    listener.server.prependListener('upgrade', (_req, socket: Socket) => {
      // The answer waits in here.
      socket.cork()
      const write = socket.write.bind(socket)
      socket.write = ((...args: Parameters<typeof write>) => {
        queueMicrotask(() => joined.resolve(socket))
        return write(...args)
      }) as typeof write
    })
    const client = await dial(port)
    client.send(
      'GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
        'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
    )
    await joined.promise
    client.socket.resetAndDestroy()
    expect(await next()).toMatchObject({ kind: 'websocket', bytesIn: 0, bytesOut: 0 })
  })

  test('of a WebSocket, with the bytes behind the handshake', async () => {
    const http = createServer()
    new WebSocketServer({ server: http }).on('connection', (socket) => {
      socket.on('message', (message) => socket.send(message))
    })
    const { port, next, gateway } = await observed(http)
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`, { headers: { 'x-session-id': 'red' } })
    await once(socket, 'open')
    expect(gateway.stats()).toEqual({ requests: 0, webSockets: 1 })
    socket.send('hello')
    await once(socket, 'message')
    socket.close(1000)
    // Messages and close frames: masked from the client.
    expect(await next()).toMatchObject({
      kind: 'websocket',
      outcome: 'answered',
      status: 101,
      sessionId: 'red',
      bytesIn: 2 + 4 + 5 + (2 + 4 + 2),
      bytesOut: 2 + 5 + (2 + 2),
    })
    expect(gateway.stats()).toEqual({ requests: 0, webSockets: 0 })
  })

  test.each([60_000, 300_000])(
    'of a WebSocket, with %i bytes that came before the answer to its handshake',
    async (size) => {
      const http = createServer()
      const handshake = signal<Socket>()
      http.on('upgrade', (_req, socket: Socket) => handshake.resolve(socket))
      const { port, next } = await observed(http)
      const client = await dial(port)
      client.send(
        'GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
          'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
      )
      const worker = await handshake.promise
      await new Promise((resolve) => client.socket.write(Buffer.alloc(size), resolve))
      worker.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
      let arrived = 0
      for await (const chunk of worker) {
        arrived += (chunk as Buffer).length
        if (arrived === size) break
      }
      client.socket.end()
      expect(await next()).toMatchObject({ kind: 'websocket', status: 101, bytesIn: size })
    },
  )

  test('of a handshake that the worker refused', async () => {
    const { port, next } = await observed((_req, res) => {
      res.writeHead(403)
      res.end('no')
    })
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`, { headers: { 'x-session-id': 'red' } })
    await once(socket, 'error')
    expect(await next()).toMatchObject({ kind: 'websocket', outcome: 'answered', status: 403, bytesOut: 2 })
  })
})

describe('trace', () => {
  test('hands its fields to the worker in place of the client’s, and hears of lease and end', async () => {
    const told: string[] = []
    const done = signal()
    const head = signal<string>()
    const worker = rawWorker(async (connection) => {
      head.resolve(await connection.head())
      connection.send('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
    })
    const { port } = await openScene(worker, {
      trace: (req) => ({
        headers: { traceparent: `${String(req.headers['traceparent'])}-child` },
        leased: (lease) => told.push(lease.worker.id),
        end: (record) => {
          told.push(record.outcome)
          done.resolve()
        },
      }),
    })
    await get(port, '/', { TraceParent: 'parent', tracestate: 'kept=1' })
    await done.promise
    expect(fieldsOf(await head.promise)).toMatchObject({ traceparent: ['parent-child'], tracestate: ['kept=1'] })
    expect(told).toEqual(['w1', 'answered'])
  })

  test('may leave a request alone', async () => {
    const { port } = await openScene((req, res) => res.end(String(req.headers['traceparent'])), {
      trace: () => undefined,
    })
    expect(await (await get(port, '/', { traceparent: 'parent' })).text()).toBe('parent')
  })
})
