import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { createServer } from 'node:net'
import type { Socket } from 'node:net'
import { describe, expect, test, vi } from 'vitest'
import { createGateway, fromHeader } from 'corral/h3'
import type { ListenOptions } from 'corral/h3'
import { FakePool } from './_pool.ts'
import { dial, get, listenOn, openScene, rawWorker, signal, textOf } from './_scene.ts'

const plain = 'GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n'

const upgrade =
  'GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'

function gateway() {
  return createGateway(new FakePool({ host: '127.0.0.1', port: 1 }).asPool, { sessionId: fromHeader('x') })
}

describe('listen', () => {
  test('tells where it listens', async () => {
    const { listener } = await openScene((_req, res) => res.end('ok'))
    expect(listener.url).toBe(`http://127.0.0.1:${listener.port}`)
    expect(listener.server.listening).toBe(true)
    expect(await (await fetch(listener.url, { headers: { 'x-session-id': 'red' } })).text()).toBe('ok')
  })

  test('takes the port that it is asked for', async () => {
    const free = createServer()
    const port = await listenOn(free)
    await new Promise((resolve) => free.close(resolve))
    const listener = await gateway().listen({ port })
    expect(listener.port).toBe(port)
    await listener.close()
  })

  test('listens on all interfaces when asked to', async () => {
    const listener = await gateway().listen({ port: 0, hostname: '0.0.0.0' })
    expect(listener.server.address()).toMatchObject({ address: '0.0.0.0' })
    await listener.close()
  })

  test('rejects on a busy port and never moves to another one', async () => {
    const port = await listenOn(createServer())
    await expect(gateway().listen({ port })).rejects.toMatchObject({
      code: 'EADDRINUSE',
      message: `Cannot listen on 127.0.0.1:${port}: the port is in use`,
    })
  })

  test('rejects on a port that listhen would replace', async () => {
    await expect(gateway().listen({ port: 6000 })).rejects.toMatchObject({ code: 'ERR_UNSAFE_PORT' })
  })

  test('rejects on an address that this machine does not have', async () => {
    await expect(gateway().listen({ port: 0, hostname: '192.0.2.1' })).rejects.toMatchObject({ code: 'EADDRNOTAVAIL' })
  })

  test.each([
    [{ port: -1 }, 'port'],
    [{ port: 70_000 }, 'port'],
    [{ hostname: '' }, 'hostname'],
    [{ hostname: 'under_score' }, 'hostname'],
    [{ hostname: '127.0.0.1:80' }, 'hostname'],
    [{ hostname: 'localhost:80' }, 'hostname'],
    [{ host: 'a' }, 'host'],
  ])('refuses %j', async (options, option) => {
    await expect(gateway().listen(options as ListenOptions)).rejects.toMatchObject({ code: 'INVALID_OPTION', option })
  })
})

describe('an upgrade to anything but WebSocket', () => {
  test('is ignored: the request is an ordinary one, and so are those after it', async () => {
    const { port, pool } = await openScene(async (req, res) => res.end(`<${req.url} ${await textOf(req)}>`))
    const client = await dial(port)
    const offer = 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n'
    client.send(plain.replace('GET /', 'GET /1').replace('Host', `${offer}Host`))
    await client.take('</1 >')
    client.send(plain.replace('GET /', 'POST /2').replace('Host', `${offer}Content-Length: 8\r\nHost`))
    client.send('the ')
    await pool.until(() => pool.granted === 2)
    client.send('body')
    await client.take('</2 the body>')
    client.send(plain.replace('GET /', 'GET /3').replace('Host', 'Connection: close\r\nHost'))
    expect(await client.rest()).toContain('</3 >')
    expect(await pool.idle()).toBe(0)
  })

  test('leaves nothing behind on its connection, however many come', async () => {
    const { port, listener } = await openScene((_req, res) => res.end('<over>'))
    const accepted = once(listener.server, 'connection') as Promise<[Socket]>
    const client = await dial(port)
    const [socket] = await accepted
    const listeners = () => socket.eventNames().map((event) => [event, socket.listenerCount(event)])
    const ask = async () => {
      client.send(plain.replace('Host', 'Connection: Upgrade\r\nUpgrade: h2c\r\nHost'))
      await client.take('<over>')
    }
    await ask()
    const before = listeners()
    for (let i = 0; i < 20; i++) await ask()
    expect(listeners()).toEqual(before)
  })
})

describe('close', () => {
  test('closes idle keep-alive connections at once, and accepts no new ones', async () => {
    const { listener, port } = await openScene((_req, res) => res.end('ok'))
    const client = await dial(port)
    client.send(plain)
    await client.take('ok')
    await listener.close()
    await client.rest()
    expect(listener.server.listening).toBe(false)
    await expect(get(port, '/')).rejects.toThrow('fetch failed')
  })

  test('lets a response that has begun finish, and closes its connection after it', async () => {
    const begun = signal<ServerResponse>()
    const { listener, port, pool } = await openScene((_req, res) => {
      res.write('one ')
      begun.resolve(res)
    })
    const client = await dial(port)
    client.send(plain)
    const res = await begun.promise
    await client.take('one ')
    const closed = listener.close()
    await once(listener.server, 'close', { signal: AbortSignal.timeout(50) }).catch(() => {})
    res.end('two')
    expect(await client.rest()).toMatch(/two\r\n0\r\n\r\n$/)
    await closed
    expect(await pool.idle()).toBe(0)
  })

  test.each([
    ['', 'as the first of its connection'],
    [plain, 'behind another one'],
  ])('answers a request that has begun to come, and announces the close in that', async (before, _where) => {
    const { listener, port } = await openScene((_req, res) => res.end('<ok>'))
    const accepted = once(listener.server, 'connection') as Promise<[Socket]>
    const client = await dial(port)
    client.send(before)
    if (before !== '') await client.take('<ok>')
    const [socket] = await accepted
    client.send(plain.slice(0, 30))
    await vi.waitFor(() => expect(socket.bytesRead).toBe(before.length + 30))
    const closed = listener.close()
    client.send(plain.slice(30))
    const answer = await client.rest()
    expect(answer).toMatch(/\r\nConnection: close\r\n[^]*<ok>/)
    expect(answer.match(/HTTP\/1.1 /g)).toHaveLength(1)
    await closed
  })

  test('waits no longer than its grace for the rest of a head', async () => {
    const { listener, port } = await openScene((_req, res) => res.end('ok'))
    const accepted = once(listener.server, 'connection') as Promise<[Socket]>
    const client = await dial(port)
    client.send(plain.slice(0, 30))
    const [socket] = await accepted
    await vi.waitFor(() => expect(socket.bytesRead).toBe(30))
    await listener.close({ grace: 50 })
    expect(await client.rest()).toBe('')
  })

  test('announces the close in responses that have not begun', async () => {
    const arrived = signal<ServerResponse>()
    const { listener, port } = await openScene((_req, res) => arrived.resolve(res))
    const client = await dial(port)
    client.send(plain)
    const res = await arrived.promise
    const closed = listener.close()
    res.end('ok')
    expect(await client.rest()).toContain('\r\nConnection: close\r\n')
    await closed
  })

  test('cuts what is left after the grace, upgraded connections too', async () => {
    const worker = rawWorker(async (connection) => {
      const head = await connection.head()
      if (head.includes('Upgrade'))
        connection.send('HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n')
      await connection.rest()
      connection.socket.destroy()
    })
    const { listener, port, pool } = await openScene(worker)
    const plainClient = await dial(port)
    plainClient.send(plain)
    const upgraded = await dial(port)
    upgraded.send(upgrade)
    await upgraded.head()
    await pool.until(() => pool.granted === 2)
    await listener.close({ grace: 50 })
    await Promise.all([plainClient.rest(), upgraded.rest()])
    expect(await pool.idle()).toBe(0)
  })

  test('can be cut short by a second one', async () => {
    const { listener, port, pool } = await openScene(() => {})
    const client = await dial(port)
    client.send(plain)
    await pool.until(() => pool.granted === 1)
    const first = listener.close({ grace: 60_000 })
    await listener.close({ grace: 0 })
    await first
    expect(await pool.idle()).toBe(0)
  })

  test('of nothing resolves', async () => {
    const listener = await gateway().listen({ port: 0 })
    await listener.close()
    await listener.close()
    await using again = await gateway().listen({ port: 0 })
    expect(again.server.listening).toBe(true)
  })
})
