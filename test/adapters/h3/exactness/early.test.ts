import { once } from 'node:events'
import type { Socket } from 'node:net'
import { describe, expect, test } from 'vitest'
import type { RawConnection } from '../_scene.ts'
import { dial } from '../_scene.ts'
import { echo, expectInStep, openRawStage, request, response } from './_stage.ts'

const size = 100_000
const upload = request('POST /upload HTTP/1.1', [`Content-Length: ${size}`])
const chunkedUpload = request('POST /upload HTTP/1.1', ['Transfer-Encoding: chunked'])
const refusal = 'HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig'

/** A worker that answers the first request by its head alone, and then does `after`; the others as it should. */
function openEarly(answer: string, after: (worker: RawConnection) => unknown = () => {}) {
  let answered = false
  return openRawStage(async (worker) => {
    const head = await worker.head()
    if (answered) {
      echo(worker, head)
      return
    }
    answered = true
    await new Promise((resolve) => worker.socket.write(answer, 'latin1', resolve))
    await after(worker)
  })
}

describe('an answer that comes before the upload is through', () => {
  test.each<[string, (worker: RawConnection) => unknown]>([
    ['and a worker that reads on', () => {}],
    ['and a worker that closes', (worker) => worker.socket.end()],
    ['and a worker that does not read on', (worker) => worker.socket.pause()],
  ])('%s: the client gets it, and its connection is in step', async (_name, after) => {
    const stage = await openEarly(refusal, after)
    stage.client.send(`${upload}xxxx`)
    expect(await response(stage.client)).toMatchObject({ status: 413, body: 'big' })
    expect(await stage.pool.idle()).toBe(0)
    stage.client.send('x'.repeat(size - 4))
    await expectInStep(stage)
  })

  test('to chunks: the rest of them is dropped, and never a request of its own', async () => {
    const stage = await openEarly(refusal)
    stage.client.send(`${chunkedUpload}4\r\nxxxx\r\n`)
    expect(await response(stage.client)).toMatchObject({ status: 413, body: 'big' })
    expect(await stage.pool.idle()).toBe(0)
    const smuggled = request('GET /smuggled HTTP/1.1')
    stage.client.send(`${smuggled.length.toString(16)}\r\n${smuggled}\r\n0\r\n\r\n`)
    await expectInStep(stage)
    expect(stage.got.join('')).not.toContain('smuggled')
  })

  test('in part: the rest of both goes on', async () => {
    const stage = await openRawStage(async (worker) => {
      await worker.head()
      worker.send('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab')
      await worker.takeBytes(size)
      worker.send('cd')
      echo(worker, await worker.head())
    })
    stage.client.send(`${upload}xxxx`)
    expect(await stage.client.head()).toMatch(/^HTTP\/1\.1 200 /)
    expect(await stage.client.takeBytes(2)).toBe('ab')
    stage.client.send('x'.repeat(size - 4))
    expect(await stage.client.takeBytes(2)).toBe('cd')
    await expectInStep(stage)
  })

  test('and a client that has too much left to send: it is disconnected, with the answer whole', async () => {
    const stage = await openEarly(refusal)
    stage.client.send(`${chunkedUpload}4\r\nxxxx\r\n`)
    expect(await response(stage.client)).toMatchObject({ status: 413, body: 'big' })
    const { socket } = stage.client
    const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`
    const pump = () => {
      while (!socket.destroyed && socket.write(chunk));
      socket.once('drain', pump)
    }
    pump()
    socket.on('end', () => socket.destroy())
    await once(socket, 'close')
    expect(await stage.pool.idle()).toBe(0)
  })

  test.each([
    ['and has more to send than is dropped', []],
    ['that is closed behind it, as it asks', ['Connection: close']],
  ])('and a client that takes it later, %s: it has all of it, and may send on', async (_name, fields) => {
    const length = 700_000
    const stage = await openEarly(`HTTP/1.1 413 Big\r\nContent-Length: ${length}\r\n\r\n${'b'.repeat(length)}`)
    const accepted = once(stage.listener.server, 'connection') as Promise<[Socket]>
    const client = await dial(stage.port)
    client.socket.pause()
    const [ours] = await accepted
    const ended = once(ours, 'finish')
    client.send(request('POST /upload HTTP/1.1', ['Content-Length: 20000000', ...fields], 'x'))
    await stage.pool.until(() => stage.pool.acquired.length === 1 && stage.pool.open === 0)
    client.send('x'.repeat(3_000_000))
    await ended
    client.send('x'.repeat(3_000_000))
    client.socket.resume()
    expect((await response(client)).body).toHaveLength(length)
    expect(await client.rest()).toBe('')
    const closed = once(ours, 'close')
    client.socket.end()
    await closed
  })

  test('and a worker that resets the connection with its answer unfinished: the client is cut', async () => {
    const stage = await openEarly('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbig', (worker) =>
      worker.socket.resetAndDestroy(),
    )
    stage.client.send(`${upload}xxxx`)
    const answer = await stage.client.rest()
    expect(answer).toMatch(/^HTTP\/1\.1 (?:200 [^]*\r\n\r\nbig|502 [^]*UPSTREAM_FAILED[^]*)$/)
    expect(await stage.pool.idle()).toBe(0)
  })
})

describe('a refusal reaches a client that goes on sending', () => {
  const handshake = ['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13']
  const key = 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=='

  test.each([
    ['of what is not HTTP', 400, request('POST / HTTP/1.1', [`Content-Length: ${size}`, 'Content-Length: 4'])],
    ['of a bad handshake', 400, request('GET / HTTP/1.1', [...handshake, 'Sec-WebSocket-Key: A=='])],
    ['of a handshake with a bad id', 400, request('GET / HTTP/1.1', [...handshake, key]).replace('red', 'r d')],
    ['of a handshake, by the worker', 403, request('GET / HTTP/1.1', [...handshake, key])],
  ])('%s: %i', async (_what, status, head) => {
    const stage = await openRawStage(async (worker) => {
      await worker.head()
      worker.send('HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno')
    })
    const { client } = stage
    client.socket.pause()
    client.send(head)
    for (let piece = 0; piece < 30; piece++) {
      // As an upload is sent: what cannot be written any more ends it, with what was not read by then.
      client.send('x'.repeat(100_000))
      await new Promise(setImmediate)
    }
    client.socket.resume()
    expect((await response(client)).status).toBe(status)
    client.socket.end()
    await stage.pool.until(() => stage.pool.open === 0)
  })
})
