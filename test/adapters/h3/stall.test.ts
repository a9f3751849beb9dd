import { once } from 'node:events'
import type { Socket } from 'node:net'
import { describe, expect, test } from 'vitest'
import type { RawConnection, Scene } from './_scene.ts'
import { readClose } from './_frames.ts'
import { dial, openScene, rawWorker, signal, textOf } from './_scene.ts'

const sendTimeout = 100
const upstream = { sendTimeout }
const upload = 'POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nTransfer-Encoding: chunked\r\n\r\n'
const handshake =
  'GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'
/** More than all buffers on the way take. */
const flood = 'x'.repeat(32 * 1024 * 1024)

function chunk(text: string): string {
  return `${text.length.toString(16)}\r\n${text}\r\n`
}

/** The gateway's end of the next connection. */
async function gatewayEnd({ listener }: Scene): Promise<Socket> {
  const [socket] = (await once(listener.server, 'connection')) as [Socket]
  return socket
}

async function openTunnel(answer: (worker: RawConnection) => void) {
  const scene = await openScene(
    rawWorker(async (worker) => {
      await worker.head()
      answer(worker)
    }),
    { upstream },
  )
  const client = await dial(scene.port)
  client.send(handshake)
  return { ...scene, client }
}

function accept(worker: RawConnection): void {
  worker.send('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n')
}

describe('a worker that does not read', () => {
  test('its upload: 504', async () => {
    const { port, pool, failures } = await openScene(() => {}, { upstream })
    const client = await dial(port)
    client.send(upload + chunk(flood))
    expect(await client.head()).toMatch(/^HTTP\/1\.1 504 /)
    expect(await pool.idle()).toBe(0)
    expect(failures).toMatchObject([{ code: 'UPSTREAM_TIMEOUT', status: 504 }])
  })

  test.each(['end', 'resetAndDestroy'] as const)('its upload, of a client that has left by %s', async (leave) => {
    const scene = await openScene(() => {}, { upstream })
    const accepted = gatewayEnd(scene)
    const client = await dial(scene.port)
    client.send(upload + chunk(flood))
    await once(await accepted, 'pause')
    client.socket[leave]()
    expect(await scene.pool.idle()).toBe(0)
  })

  test('its upload after the head of its response: the connection is cut', async () => {
    const { port, pool, failures } = await openScene((_req, res) => res.write('begun'), { upstream })
    const client = await dial(port)
    client.send(upload + chunk('first'))
    await client.take('begun\r\n')
    client.send(chunk(flood))
    expect(await client.rest()).toBe('')
    expect(await pool.idle()).toBe(0)
    expect(failures).toMatchObject([{ code: 'UPSTREAM_TIMEOUT', status: undefined }])
  })

  test('for a while is waited for, and then has all the time it wants', async () => {
    const [held, taken, answer] = [signal(), signal(), signal()]
    const scene = await openScene(
      async (req, res) => {
        if (req.headers['x-session-id'] !== 'red') return
        await held.promise
        const { length } = await textOf(req)
        taken.resolve()
        await answer.promise
        res.end(String(length))
      },
      { upstream },
    )
    const accepted = gatewayEnd(scene)
    const client = await dial(scene.port)
    client.send(upload + chunk(flood) + chunk(''))
    await once(await accepted, 'pause')
    held.resolve()
    await taken.promise
    // The time of one that begins later to be held back runs out later, too.
    const other = await dial(scene.port)
    other.send(upload.replace('red', 'blue') + chunk(flood))
    expect(await other.head()).toMatch(/^HTTP\/1\.1 504 /)
    answer.resolve()
    expect(await client.head()).toMatch(/^HTTP\/1\.1 200 /)
    expect(await client.takeBytes(8)).toBe(String(flood.length))
    client.socket.destroy()
  })

  test('its WebSocket: both ends are cut, and the client is told', async () => {
    const { client, pool, failures } = await openTunnel((worker) => {
      worker.socket.pause()
      accept(worker)
    })
    await client.head()
    client.send(flood)
    expect(readClose(await client.rest())).toMatchObject({ code: 1014 })
    expect(await pool.idle()).toBe(0)
    expect(failures).toMatchObject([{ code: 'UPSTREAM_TIMEOUT', status: undefined, sessionId: 'red' }])
  })

  test('nor answer a handshake with more behind it than the gateway keeps: the client is cut', async () => {
    const { client, pool } = await openTunnel(() => {})
    client.send(flood)
    expect(await client.rest()).toBe('')
    expect(await pool.idle()).toBe(0)
  })
})

describe('a client that does not read', () => {
  test('and leaves by a reset within its response is noticed', async () => {
    const { port, pool } = await openScene((_req, res) => res.write(flood))
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
    await client.take('xxxx')
    client.socket.pause()
    client.socket.resetAndDestroy()
    expect(await pool.idle()).toBe(0)
  })

  test('and leaves by a reset, while neither end of its WebSocket reads, is noticed', async () => {
    const { client, pool } = await openTunnel((worker) => {
      worker.socket.pause()
      accept(worker)
      worker.send(flood)
    })
    await client.take('xxxx')
    client.socket.pause()
    client.socket.write(flood)
    client.socket.resetAndDestroy()
    expect(await pool.idle()).toBe(0)
  })
})
