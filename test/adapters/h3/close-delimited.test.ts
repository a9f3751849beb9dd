import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { RawConnection, dial, get, listenOn, openScene, rawWorker, signal } from './_scene.ts'

const plain = 'GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n'

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

  test('is cut when the worker resets the connection within an upload, of which the next write is told first', async () => {
    const worker = rawWorker(async (connection) => {
      await connection.head()
      await connection.takeBytes(1)
      connection.send(`${head}some of it`)
      connection.socket.once('data', () => connection.socket.resetAndDestroy())
    })
    const { port, pool } = await openScene(worker)
    for (let upload = 0; upload < 20; upload++) {
      const client = await dial(port)
      client.send('POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nContent-Length: 1000000\r\n\r\nx')
      await client.take('some of it')
      client.send('x'.repeat(999_998))
      expect(await client.rest()).not.toContain('0\r\n\r\n')
    }
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

  test('that a closing listener cuts is a reset, as a close would look complete', async () => {
    const { port, pool, listener } = await openScene((_req, res) => void res.write('some of it'))
    const client = await dial(port)
    client.send('GET / HTTP/1.0\r\nX-Session-Id: red\r\n\r\n')
    await client.take('some of it')
    const broken = new Promise<NodeJS.ErrnoException>((resolve) => void client.socket.once('error', resolve))
    await listener.close({ grace: 0 })
    expect((await broken).code).toBe('ECONNRESET')
    expect(await pool.idle()).toBe(0)
  })

  test('cut towards an HTTP/1.0 client of a unix socket, which knows no reset, is closed', async () => {
    const arrived = signal<IncomingMessage>()
    const { pool, gateway } = await openScene((req, res) => {
      res.write('half')
      arrived.resolve(req)
    })
    const directory = mkdtempSync(join(tmpdir(), 'corral-test-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    const socketPath = join(directory, 's')
    await listenOn(createServer(gateway.handler), socketPath)
    const client = new RawConnection(connect(socketPath))
    client.send('GET / HTTP/1.0\r\nX-Session-Id: red\r\n\r\n')
    await client.take('half')
    ;(await arrived.promise).socket.destroy()
    expect(await client.rest()).toBe('')
    expect(await pool.idle()).toBe(0)
  })
})

describe('a worker that closes while the client takes nothing', () => {
  const size = { first: 2 * 1024, second: 63 * 1024 }
  const length = size.first + size.second

  /** Sends a response whose last piece the client's connection has no room for, and is at its end then. */
  async function open(head: string, end: (worker: RawConnection) => void) {
    const closed = signal()
    const worker = rawWorker(async (connection) => {
      await connection.head()
      connection.socket.on('close', () => closed.resolve())
      connection.send(`HTTP/1.1 200 OK\r\n${head}\r\n${'a'.repeat(size.first)}`)
      await scene.pool.until(() => scene.pool.touched === 1)
      connection.send('b'.repeat(size.second))
      await scene.pool.until(() => scene.pool.touched === 2)
      end(connection)
    })
    const scene = await openScene(worker)
    const held = signal<Socket>()
    scene.listener.server.prependListener('request', ({ socket }) => {
      socket.cork()
      held.resolve(socket)
    })
    const client = await dial(scene.port)
    client.send(plain.replace('Host', 'Connection: close\r\nHost'))
    return { client, pool: scene.pool, closed, uncork: async () => (await held.promise).uncork() }
  }

  test.each([
    ['with a length', `Content-Length: ${length}\r\nConnection: close\r\n`],
    ['with a length, of a connection that was to be kept', `Content-Length: ${length}\r\n`],
    ['without one', 'Connection: close\r\n'],
  ])('has finished its response: %s', async (_framing, head) => {
    const { client, pool, closed, uncork } = await open(head, (worker) => worker.socket.end())
    await closed.promise
    await uncork()
    const body = await client.rest()
    expect([body.match(/a/g)?.length, body.match(/b/g)?.length].map((n = 0) => n >= size.first)).toEqual([true, true])
    expect(body.match(/b{100,}/g)?.join('')).toHaveLength(size.second)
    expect(body).toMatch(head.includes('Content-Length') ? /b$/ : /b\r\n0\r\n\r\n$/)
    expect(await pool.idle()).toBe(0)
  })

  test('by a reset has not', async () => {
    const { client, pool, closed, uncork } = await open('Connection: close\r\n', (worker) =>
      worker.socket.resetAndDestroy(),
    )
    await closed.promise
    await uncork()
    expect(await client.rest()).not.toContain('0\r\n\r\n')
    expect(await pool.idle()).toBe(0)
  })
})
