import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { IncomingMessage } from 'node:http'
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
