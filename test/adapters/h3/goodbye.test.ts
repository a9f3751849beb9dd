import { describe, expect, test } from 'vitest'
import type { GatewayOptions } from 'corral/h3'
import { frame, readClose } from './_frames.ts'
import type { RawConnection } from './_scene.ts'
import { dial, openScene, rawWorker, signal } from './_scene.ts'

const handshake =
  'GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'
const accepted = 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n'
const [text, ping, pong, close] = [1, 9, 10, 8]

/** A tunnel between a raw client and a raw worker, after the handshake. */
async function openTunnel(options: Partial<GatewayOptions> = {}) {
  const joined = signal<RawConnection>()
  const server = rawWorker(async (connection) => {
    await connection.head()
    connection.send(accepted)
    joined.resolve(connection)
  })
  const scene = await openScene(server, options)
  const client = await dial(scene.port)
  client.send(handshake)
  await client.head()
  const worker = await joined.promise
  // From here on both directions of the tunnel are joined.
  worker.send(frame(text, 'hello'))
  await client.takeBytes(7)
  return { ...scene, client, worker }
}

describe('a client is told by a close frame', () => {
  test('that its session has ended', async () => {
    const { client, worker, pool, failures } = await openTunnel()
    pool.end('red')
    expect(readClose(await client.rest())).toEqual({ code: 1001, reason: 'The session was ended' })
    await worker.rest()
    expect(await pool.idle()).toBe(0)
    expect(failures).toMatchObject([{ code: 'SESSION_ENDED', status: undefined, sessionId: 'red' }])
  })

  test('that its worker has died, when the connection breaks before the pool knows', async () => {
    const { client, worker, pool, failures } = await openTunnel()
    worker.socket.resetAndDestroy()
    pool.lose('red')
    expect(readClose(await client.rest())).toMatchObject({ code: 1011 })
    expect(failures).toMatchObject([{ code: 'SESSION_LOST' }])
  })

  test('that the gateway goes away, when its grace is over', async () => {
    const { client, listener, pool } = await openTunnel()
    await Promise.all([
      listener.close({ grace: 0 }),
      client.rest().then((rest) => expect(readClose(rest).code).toBe(1001)),
    ])
    expect(await pool.idle()).toBe(0)
  })

  test('even when it does not close its side, and then is cut', async () => {
    const { client, listener, pool } = await openTunnel()
    await listener.close({ grace: 0 })
    expect(readClose(client.received)).toMatchObject({ code: 1001 })
    expect(await pool.idle()).toBe(0)
  })

  test('between two fragments of a message', async () => {
    const { client, worker, pool } = await openTunnel()
    const fragment = frame(text, 'half', { final: false })
    worker.send(fragment)
    expect(await client.takeBytes(fragment.length)).toBe(fragment)
    pool.end('red')
    expect(readClose(await client.rest())).toMatchObject({ code: 1001 })
  })
})

describe('a client gets no close frame', () => {
  test('within a frame of the worker, where it would be taken for content', async () => {
    const { client, worker, pool } = await openTunnel()
    worker.send(frame(text, 'whole').slice(0, 4))
    await client.takeBytes(4)
    pool.end('red')
    expect(await client.rest()).toBe('')
  })

  test('after that of the worker', async () => {
    const { client, worker, pool } = await openTunnel()
    const goodbye = frame(close, '\u0003\u00e8')
    worker.send(goodbye)
    expect(await client.takeBytes(goodbye.length)).toBe(goodbye)
    pool.end('red')
    expect(await client.rest()).toBe('')
  })

  test('when the worker ends the connection and lives', async () => {
    const { client, worker, pool, failures } = await openTunnel()
    worker.socket.end(frame(text, 'last'), 'latin1')
    expect(await client.rest()).toBe(frame(text, 'last'))
    expect(await pool.idle()).toBe(0)
    expect(failures).toEqual([])
  })
})

describe('with pingInterval a client that is silent', () => {
  test('is pinged, and stays when it answers; its pongs do not count as use', async () => {
    const { client, worker, pool } = await openTunnel({ pingInterval: 50 })
    const { touched } = pool
    const answer = frame(pong, '', { masked: true })
    for (let i = 0; i < 3; i++) {
      expect(await client.takeBytes(2)).toBe(frame(ping))
      client.send(answer)
      // To the worker it is a pong that it did not ask for.
      expect(await worker.takeBytes(answer.length)).toBe(answer)
    }
    expect(pool.touched).toBe(touched)
    expect(pool.open).toBe(1)
  })

  test('and does not answer is cut, and told so', async () => {
    const { client, worker, pool, failures } = await openTunnel({ pingInterval: 50 })
    const last = await client.rest()
    expect(last.slice(0, 2)).toBe(frame(ping))
    // 1008, and the words.
    expect(last.slice(2)).toBe(frame(close, '\x03\xf0The client took too long'))
    await worker.rest()
    expect(await pool.idle()).toBe(0)
    expect(failures).toMatchObject([{ code: 'CLIENT_TIMEOUT', status: undefined }])
  })

  test('is not pinged within a frame of the worker', async () => {
    const { client, worker, port } = await openTunnel({ pingInterval: 50 })
    const beat = await openBeat(port)
    const whole = frame(text, 'whole')
    const [begun, rest] = [whole.slice(0, 4), whole.slice(4)]
    worker.send(begun)
    await client.take(begun)
    // Whatever it was asked before is answered with this, and from here on it is silent.
    client.send(frame(pong, '', { masked: true }))
    await worker.takeBytes(6)
    // The first may be one from before; behind each of the others there is one that hears nothing, and would have to ping.
    for (let i = 0; i < 3; i++) await beat()
    expect(client.received).toBe('')
    worker.send(rest)
    expect(await client.takeBytes(rest.length + 2)).toBe(rest + frame(ping))
  })

  test('and does not answer the close frame of the worker is cut, without a ping behind that', async () => {
    const { client, worker, pool, failures } = await openTunnel({ pingInterval: 50 })
    const goodbye = frame(close, '\x03\xe8')
    worker.send(goodbye)
    expect((await client.rest()).replaceAll(frame(ping), '')).toBe(goodbye)
    expect(await worker.rest()).toBe('')
    expect(await pool.idle()).toBe(0)
    expect(failures).toMatchObject([{ code: 'CLIENT_TIMEOUT' }])
  })

  test('is not asked when it talks', async () => {
    const { client, worker, pool, port } = await openTunnel({ pingInterval: 200 })
    const beat = await openBeat(port)
    const talk = async () => {
      client.send(frame(text, 'talk', { masked: true }))
      await worker.takeBytes(10)
    }
    await talk()
    worker.send(frame(text, 'heard'))
    await client.take('heard')
    const time = { isOver: false }
    const silence = beat()
      .then(beat)
      .then(() => (time.isOver = true))
    while (!time.isOver) await talk()
    await silence
    expect(client.received).toBe('')
    expect(pool.open).toBe(2)
  })
})

/**
 * Joins one more WebSocket, which is silent and answers pings. Each call resolves with a beat of the gateway at which it is pinged,
 * and all others have been looked at, too. Between two of them lies one at which its answer is heard.
 */
async function openBeat(port: number): Promise<() => Promise<void>> {
  const silent = await dial(port)
  silent.send(handshake)
  await silent.head()
  return async () => {
    await silent.takeBytes(2)
    silent.send(frame(pong, '', { masked: true }))
  }
}
