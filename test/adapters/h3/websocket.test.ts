import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { createServer } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Socket } from 'node:net'
import { connect } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { QueueFullError } from 'corral'
import { fromPath, fromQuery } from 'corral/h3'
import { Pour } from './_pour.ts'
import type { RawConnection, Scene } from './_scene.ts'
import { dial, fieldsOf, handshakeOf, openScene, rawWorker, signal } from './_scene.ts'

const handshake = handshakeOf({ target: '/chat?x=%zz', host: 'example.org' })

const accepted =
  'HTTP/1.1 101 Switching  Protocols\r\nX-CasE: 1\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n' +
  'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n'

/** A scene with a real WebSocket server as the worker. */
async function openChat(options: ConstructorParameters<typeof WebSocketServer>[0] = {}) {
  const http = createServer()
  const server = new WebSocketServer({ ...options, server: http })
  const scene = await openScene(http)
  return { ...scene, server }
}

function open(scene: Pick<Scene, 'port'>, ...args: [protocols?: string[], options?: object]): WebSocket {
  const [protocols = [], options = {}] = args
  const socket = new WebSocket(`ws://127.0.0.1:${scene.port}/`, protocols, {
    headers: { 'x-session-id': 'red' },
    ...options,
  })
  socket.on('error', () => {})
  onTestFinished(() => socket.terminate())
  return socket
}

async function connected(server: WebSocketServer): Promise<[WebSocket, IncomingMessage]> {
  return (await once(server, 'connection')) as [WebSocket, IncomingMessage]
}

/** A raw tunnel: a client and a worker that speak no WebSocket at all after the handshake. */
async function openTunnel() {
  const worker = signal<RawConnection>()
  const server = rawWorker(async (connection) => {
    await connection.head()
    connection.send(accepted)
    worker.resolve(connection)
  })
  const scene = await openScene(server)
  const client = await dial(scene.port)
  client.send(handshake)
  await client.head()
  return { ...scene, client, worker: await worker.promise }
}

describe('the handshake', () => {
  test('reaches the worker with its target, fields and forwarded headers, and its answer is exact', async () => {
    const head = signal<string>()
    const worker = rawWorker(async (connection) => {
      head.resolve(await connection.head())
      connection.send(accepted)
    })
    const { port } = await openScene(worker)
    const client = await dial(port)
    client.send(handshake.replace('X-Session-Id', 'X-Forwarded-For: 6.6.6.6\r\nX-Session-Id'))
    expect(await client.head()).toBe(accepted)
    const sent = await head.promise
    expect(sent).toMatch(/^GET \/chat\?x=%zz HTTP\/1\.1\r\n/)
    expect(fieldsOf(sent)).toMatchObject({
      connection: ['Upgrade'],
      upgrade: ['websocket'],
      'sec-websocket-key': ['dGhlIHNhbXBsZSBub25jZQ=='],
      'sec-websocket-version': ['13'],
      'x-forwarded-for': ['127.0.0.1'],
      'x-forwarded-host': ['example.org'],
    })
  })

  test('session ids come from the path and the query too', async () => {
    const worker = rawWorker(async (connection) => {
      const head = await connection.head()
      connection.send(accepted + (head.split(' ')[1] ?? ''))
    })
    const { port, pool } = await openScene(worker, { sessionId: [fromQuery('sid'), fromPath()] })
    for (const [target, seen] of [
      ['/s/blue/live?a', '/live?a'],
      ['/live?sid=green', '/live?sid=green'],
    ] as const) {
      const client = await dial(port)
      client.send(handshake.replace('/chat?x=%zz', target))
      await client.head()
      expect(await client.takeBytes(seen.length)).toBe(seen)
    }
    expect(pool.acquired).toEqual(['blue', 'green'])
  })

  test('early frames of both ends arrive', async () => {
    const got = signal<string>()
    const worker = rawWorker(async (connection) => {
      await connection.head()
      connection.send(`${accepted}early from the worker`)
      got.resolve(await connection.takeBytes(29))
    })
    const { port, pool } = await openScene(worker)
    pool.hold()
    const client = await dial(port)
    client.send(`${handshake}early `)
    await pool.until(() => pool.acquired.length === 1)
    client.send('from the client, ')
    await new Promise((resolve) => client.socket.write('twice!', resolve))
    pool.grant()
    await client.head()
    expect(await client.takeBytes(21)).toBe('early from the worker')
    expect(await got.promise).toBe('early from the client, twice!')
  })

  test.each([
    ['not GET', handshake.replace('GET', 'POST')],
    ['without a key', handshake.replace('Sec-WebSocket-Key', 'X-Key')],
    ['with a body', handshake.replace('Upgrade: websocket', 'Upgrade: websocket\r\nContent-Length: 3')],
  ])('%s is answered with 400', async (_name, text) => {
    const { port, pool } = await openScene(() => {})
    const client = await dial(port)
    client.send(text)
    const answer = await client.rest()
    expect(answer).toMatch(/^HTTP\/1\.1 400 /)
    expect(answer).toContain('"UPGRADE_INVALID"')
    expect(pool.acquired).toEqual([])
  })

  test('without a session id is answered with 400', async () => {
    const { port } = await openScene(() => {})
    const client = await dial(port)
    client.send(handshake.replace('X-Session-Id', 'X-Other'))
    expect(await client.rest()).toContain('"SESSION_ID_MISSING"')
  })
})

describe('a refusal', () => {
  test('of the worker reaches the client as it is', async () => {
    const { pool, port } = await openScene((_req, res) => res.end())
    const worker = rawWorker(async (connection) => {
      await connection.head()
      connection.send(
        'HTTP/1.1 403 Not You\r\nX-Why: because\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nDate: x\r\n' +
          'Keep-Alive: timeout=1\r\nContent-Length: 7\r\n\r\ngo away',
      )
    })
    await new Promise<void>((resolve) => worker.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void worker.close())
    pool.address = { host: '127.0.0.1', port: (worker.address() as { port: number }).port }
    const client = await dial(port)
    client.send(handshake)
    expect(await client.rest()).toBe(
      'HTTP/1.1 403 Not You\r\nX-Why: because\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nDate: x\r\n' +
        'Content-Length: 7\r\nConnection: close\r\n\r\ngo away',
    )
    expect(await pool.idle()).toBe(0)
  })

  test('of the worker with a large body arrives whole', async () => {
    const body = 'x'.repeat(4 * 1024 * 1024)
    const http = createServer()
    http.on('upgrade', (_req, socket: Duplex) => {
      socket.end(`HTTP/1.1 500 No\r\nConnection: close\r\n\r\n${body}`)
    })
    const scene = await openScene(http)
    const socket = open(scene)
    const [, answer] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage]
    let length = 0
    for await (const chunk of answer) length += (chunk as Buffer).length
    expect(length).toBe(body.length)
    expect(await scene.pool.idle()).toBe(0)
  })

  test('of the pool is a problem', async () => {
    const { port, pool } = await openScene(() => {})
    pool.refusal = new QueueFullError('red', 1)
    const client = await dial(port)
    client.send(handshake)
    const [head = '', body = ''] = (await client.rest()).split('\r\n\r\n')
    expect(head).toMatch(/^HTTP\/1\.1 503 /)
    expect(fieldsOf(head)).toMatchObject({
      'content-type': ['application/problem+json'],
      'retry-after': ['1'],
      connection: ['close'],
    })
    expect(JSON.parse(body)).toMatchObject({ status: 503, code: 'QUEUE_FULL' })
  })

  test('is 502 when the worker dies within the handshake', async () => {
    const worker = rawWorker(async (connection) => {
      await connection.head()
      pool.lose('red')
    })
    const { port, pool } = await openScene(worker)
    const client = await dial(port)
    client.send(handshake)
    const answer = await client.rest()
    expect(answer).toMatch(/^HTTP\/1\.1 502 /)
    expect(answer).toContain('"SESSION_LOST"')
    expect(await pool.idle()).toBe(0)
  })

  test('is 502 when the worker closes without an answer', async () => {
    const worker = rawWorker(async (connection) => {
      await connection.head()
      connection.socket.destroy()
    })
    const { port, pool } = await openScene(worker)
    const client = await dial(port)
    client.send(handshake)
    expect(await client.rest()).toContain('"UPSTREAM_FAILED"')
    expect(await pool.idle()).toBe(0)
  })

  test('is 504 when the worker does not answer in time', async () => {
    const worker = rawWorker((connection) => connection.rest())
    const { port, pool } = await openScene(worker, { upstream: { headersTimeout: 50 } })
    const client = await dial(port)
    client.send(handshake)
    expect(await client.rest()).toContain('"UPSTREAM_TIMEOUT"')
    expect(await pool.idle()).toBe(0)
  })
})

describe('an open WebSocket', () => {
  test('carries messages both ways, with the sub-protocol that the worker chose', async () => {
    const scene = await openChat({ handleProtocols: (offered) => [...offered][1] ?? false })
    const client = open(scene, ['one', 'two'])
    const [worker] = await connected(scene.server)
    await once(client, 'open')
    expect(client.protocol).toBe('two')
    worker.on('message', (data, isBinary) => worker.send(data, { binary: isBinary }))
    client.send('text')
    expect(String((await once(client, 'message'))[0])).toBe('text')
    client.send(Buffer.from([0, 255]))
    expect((await once(client, 'message'))[0]).toEqual(Buffer.from([0, 255]))
    expect(scene.pool.open).toBe(1)
    expect(scene.pool.touched).toBeGreaterThanOrEqual(4)
    client.close()
    expect(await scene.pool.idle()).toBe(0)
  })

  test('negotiates permessage-deflate between the two ends', async () => {
    const scene = await openChat({ perMessageDeflate: { threshold: 0 } })
    const client = open(scene, [], { perMessageDeflate: { threshold: 0 } })
    const [worker] = await connected(scene.server)
    await once(client, 'open')
    expect(client.extensions).toContain('permessage-deflate')
    expect(worker.extensions).toContain('permessage-deflate')
    const text = 'abc'.repeat(100_000)
    client.send(text)
    expect(String((await once(worker, 'message'))[0])).toBe(text)
  })

  test('passes pings and pongs with their payload', async () => {
    const scene = await openChat()
    const client = open(scene)
    const [worker] = await connected(scene.server)
    await once(client, 'open')
    client.ping('from the client')
    expect(String((await once(worker, 'ping'))[0])).toBe('from the client')
    expect(String((await once(client, 'pong'))[0])).toBe('from the client')
    worker.ping('from the worker')
    expect(String((await once(worker, 'pong'))[0])).toBe('from the worker')
  })

  test.each([
    ['client', 4001],
    ['worker', 4002],
  ] as const)('passes the close code and reason of the %s', async (side, code) => {
    const scene = await openChat()
    const client = open(scene)
    const [worker] = await connected(scene.server)
    await once(client, 'open')
    const [from, to] = side === 'client' ? [client, worker] : [worker, client]
    const closed = once(to, 'close')
    from.close(code, 'because')
    const [seen, reason] = (await closed) as [number, Buffer]
    expect([seen, String(reason)]).toEqual([code, 'because'])
    expect(await scene.pool.idle()).toBe(0)
  })

  test('many of one session share it, each with a lease', async () => {
    const scene = await openChat()
    const clients = Array.from({ length: 10 }, () => open(scene))
    await Promise.all(clients.map((client) => once(client, 'open')))
    expect(scene.pool.open).toBe(10)
    expect(new Set(scene.pool.acquired)).toEqual(new Set(['red']))
    for (const client of clients) client.close()
    expect(await scene.pool.idle()).toBe(0)
  })
})

describe('flow control', () => {
  test.each(['client', 'worker'] as const)('a %s that does not read holds the other end back', async (side) => {
    const { client, worker, pool, port } = await openTunnel()
    const [reader, writer] = side === 'client' ? [client, worker] : [worker, client]
    reader.socket.pause()
    const size = 64 * 1024 * 1024
    const pour = new Pour(writer.socket, size)
    expect(await pour.blocked(port)).toBeLessThan(24 * 1024 * 1024)
    let read = 0
    reader.socket.removeAllListeners('data')
    const all = new Promise<void>((resolve) => {
      reader.socket.on('data', (data) => {
        read += data.length
        if (read >= size) resolve()
      })
    })
    reader.socket.resume()
    await pour.finished
    await all
    expect(read).toBe(size)
    client.socket.destroy()
    worker.socket.end()
    expect(await pool.idle()).toBe(0)
  })
})

describe('the ends', () => {
  test('a client that disappears: the worker is disconnected and the lease released', async () => {
    const { client, worker, pool } = await openTunnel()
    client.socket.resetAndDestroy()
    await worker.rest()
    expect(await pool.idle()).toBe(0)
  })

  test('a worker that disappears: the client is disconnected and the lease released', async () => {
    const { client, worker, pool } = await openTunnel()
    worker.send('last words')
    await client.takeBytes(10)
    worker.socket.resetAndDestroy()
    await client.rest()
    expect(await pool.idle()).toBe(0)
  })

  test('what was sent before an end closed still arrives', async () => {
    const { client, worker, pool } = await openTunnel()
    worker.socket.end('x'.repeat(1_000_000))
    expect((await client.rest()).length).toBe(1_000_000)
    client.socket.end('y'.repeat(1000))
    expect((await worker.rest()).length).toBe(1000)
    expect(await pool.idle()).toBe(0)
  })

  test('the session’s end cuts the tunnel', async () => {
    const { client, worker, pool } = await openTunnel()
    pool.lose('red')
    await Promise.all([client.rest(), worker.rest()])
    expect(await pool.idle()).toBe(0)
  })

  test('a client that leaves while it waits for a worker aborts the wait, by a close or by a reset', async () => {
    for (const leave of ['end', 'resetAndDestroy'] as const) {
      const { port, pool } = await openScene(() => {})
      pool.hold()
      const client = await dial(port)
      client.send(`${handshake}early`)
      await pool.until(() => pool.acquired.length === 1)
      client.socket[leave]()
      await pool.until(() => pool.aborted === 1)
      expect(pool.granted).toBe(0)
    }
  })

  test('a client that leaves within the handshake takes it along', async () => {
    const arrived = signal<RawConnection>()
    const worker = rawWorker(async (connection) => {
      await connection.head()
      arrived.resolve(connection)
    })
    const { port, pool, failures } = await openScene(worker)
    const client = await dial(port)
    client.send(handshake)
    const connection = await arrived.promise
    client.socket.end()
    await connection.rest()
    await pool.idle()
    expect(failures).toEqual([])
  })

  test('a client that resets its connection right after the handshake does no harm', async () => {
    const { port, pool } = await openScene(rawWorker((connection) => connection.rest()))
    const sockets: Socket[] = []
    for (let i = 0; i < 20; i++) {
      const socket = connect(port, '127.0.0.1')
      sockets.push(socket)
      socket.on('error', () => {})
      socket.write(handshake, () => socket.resetAndDestroy())
    }
    await Promise.all(sockets.map((socket) => once(socket, 'close')))
    await pool.until(() => pool.open === 0)
    expect(pool.released).toBe(pool.granted)
  })
})
