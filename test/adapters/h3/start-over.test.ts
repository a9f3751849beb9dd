import { once } from 'node:events'
import { createServer } from 'node:http'
import { describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { FakePool } from './_pool.ts'
import type { Handler } from './_scene.ts'
import { dial, get, httpWorker, listenOn, openGateway, textOf } from './_scene.ts'

/** An address that nobody listens on any more. */
async function deadAddress() {
  const server = createServer()
  const port = await listenOn(server)
  await new Promise((resolve) => server.close(resolve))
  return { host: '127.0.0.1', port }
}

/** A session whose worker has died, which the pool hears of only when it has been asked; the next one has a live worker. */
async function openDying(worker: Handler | ReturnType<typeof createServer>) {
  const port = await listenOn(typeof worker === 'function' ? httpWorker(worker) : worker)
  const pool = new FakePool(await deadAddress())
  const scene = await openGateway(pool)
  const mourn = async (end: 'lose' | 'end' = 'lose') => {
    await pool.until(() => pool.granted === 1)
    pool.address = { host: '127.0.0.1', port }
    pool[end]('red')
  }
  return { pool, ...scene, mourn }
}

describe('of a session whose worker has died unheard of,', () => {
  test('a request gets the next session, as it would have a moment later', async () => {
    const { port, pool, mourn, failures } = await openDying((_req, res) => res.end('alive'))
    const [response] = await Promise.all([get(port, '/'), mourn()])
    expect([response.status, await response.text()]).toEqual([200, 'alive'])
    expect([pool.acquired, await pool.idle(), failures]).toEqual([['red', 'red'], 0, []])
  })

  test('a small body goes along', async () => {
    const { port, mourn } = await openDying(async (req, res) => res.end(await textOf(req)))
    const asked = fetch(`http://127.0.0.1:${port}/`, {
      method: 'POST',
      headers: { 'x-session-id': 'red' },
      body: 'hello',
    })
    await mourn()
    expect(await (await asked).text()).toBe('hello')
  })

  test('a body that has begun to be read cannot: 502', async () => {
    const { port, pool, mourn } = await openDying((_req, res) => res.end('alive'))
    const client = await dial(port)
    client.send('POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n')
    await mourn()
    expect(await client.head()).toMatch(/^HTTP\/1\.1 502 /)
    expect(await pool.idle()).toBe(0)
  })

  test('a handshake gets the next session, too', async () => {
    const http = createServer()
    const server = new WebSocketServer({ server: http })
    onTestFinished(() => server.close())
    const { port, pool, mourn } = await openDying(http)
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`, { headers: { 'x-session-id': 'red' } })
    onTestFinished(() => socket.terminate())
    await Promise.all([once(socket, 'open'), mourn()])
    expect([pool.acquired, pool.open]).toEqual([['red', 'red'], 1])
  })

  test('a request starts over once', async () => {
    const { port, pool, failures } = await openDying((_req, res) => res.end('alive'))
    const asked = get(port, '/')
    for (const granted of [1, 2]) {
      await pool.until(() => pool.granted === granted)
      pool.lose('red')
    }
    expect((await asked).status).toBe(502)
    expect([await pool.idle(), failures]).toMatchObject([0, [{ code: 'SESSION_LOST' }]])
  })

  test('a client that leaves meanwhile takes nothing along', async () => {
    const { port, pool, mourn } = await openDying((_req, res) => res.end('alive'))
    pool.hold({ grantsAnyway: true })
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
    await pool.until(() => pool.acquired.length === 1)
    pool.grant()
    await mourn()
    client.socket.destroy()
    await pool.until(() => pool.open === 0)
  })
})

test('a session that was ended is not begun again behind its owner’s back', async () => {
  const { port, pool, mourn } = await openDying((_req, res) => res.end('alive'))
  const [response] = await Promise.all([get(port, '/'), mourn('end')])
  expect(response.status).toBe(502)
  expect(pool.acquired).toEqual(['red'])
})
