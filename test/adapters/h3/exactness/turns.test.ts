import { describe, expect, test } from 'vitest'
import { signal } from '../_scene.ts'
import type { RawConnection } from '../_scene.ts'
import type { Act } from './_stage.ts'
import { echo, expectInStep, expectRefusal, forwarded, openRawStage, openStage, request, response } from './_stage.ts'

const first = request('GET /first HTTP/1.1')
const second = request('GET /second HTTP/1.1')
const upload = request('POST /upload HTTP/1.1', ['Transfer-Encoding: chunked'])
const garbage = '\0\0not HTTP\r\n\r\n'

/** A worker that is held back until the test lets it answer. */
function held() {
  const arrived = signal<RawConnection>()
  const go = signal()
  const act: Act = async (worker, text) => {
    arrived.resolve(worker)
    await go.promise
    echo(worker, text)
  }
  return { arrived: arrived.promise, answer: () => go.resolve(), act }
}

/** A worker that answers when it has read the head of a request. */
function openEarly(answer: string) {
  return openRawStage(async (worker) => {
    await worker.head()
    worker.send(answer)
  })
}

describe('pipelined requests', () => {
  test('are answered in order, with their own responses, and reach the worker one after the other', async () => {
    const stage = await openStage()
    stage.client.send(first + second + request('POST /third HTTP/1.1', ['Content-Length: 3'], 'abc'))
    for (const body of ['GET /first', 'GET /second', 'POST /third']) {
      expect(await response(stage.client)).toMatchObject({ status: 200, body })
    }
    expect(stage.got).toEqual([
      forwarded(stage, { line: 'GET /first HTTP/1.1' }) +
        forwarded(stage, { line: 'GET /second HTTP/1.1' }) +
        forwarded(stage, { line: 'POST /third HTTP/1.1', framing: 'content-length: 3', body: 'abc' }),
    ])
    await expectInStep(stage)
  })

  test('in pieces of one byte are the same', async () => {
    const stage = await openStage()
    for (const byte of first + upload + '3\r\nabc\r\n0\r\n\r\n' + second) {
      await new Promise((resolve) => stage.client.socket.write(byte, 'latin1', resolve))
    }
    for (const body of ['GET /first', 'POST /upload', 'GET /second']) {
      expect(await response(stage.client)).toMatchObject({ status: 200, body })
    }
    await expectInStep(stage)
  })

  test('behind one that closes the connection are never served', async () => {
    const stage = await openStage()
    stage.client.send(request('GET /first HTTP/1.1', ['Connection: close']) + second)
    expect(await stage.client.rest()).toMatch(/^HTTP\/1\.1 200 [^]*GET \/first$/)
    expect(stage.got.join('')).not.toContain('second')
    expect(await stage.pool.idle()).toBe(0)
  })

  test('behind one that is refused are served when the connection is in step', async () => {
    const stage = await openStage()
    stage.client.send(first.replace('X-Session-Id: red', 'X-Session-Id: ?') + second)
    expect((await response(stage.client)).status).toBe(400)
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'GET /second' })
    await expectInStep(stage)
  })

  test('of different sessions get the responses of their own', async () => {
    const stage = await openStage((worker, text) => {
      const id = /^x-session-id: (.*)\r$/im.exec(text)?.[1] ?? ''
      worker.send(`HTTP/1.1 200 OK\r\nContent-Length: ${id.length}\r\n\r\n${id}`)
    })
    const ids = Array.from({ length: 20 }, (_, i) => `s${i % 3}`)
    stage.client.send(ids.map((id) => first.replace('red', id)).join(''))
    for (const body of ids) expect(await response(stage.client)).toMatchObject({ status: 200, body })
  })
})

describe('an upgrade behind a request that is not answered yet', () => {
  const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='

  test.each([
    ['a handshake', request('GET /ws HTTP/1.1', ['Connection: Upgrade', 'Upgrade: websocket', key])],
    ['a wrong handshake', request('GET /ws HTTP/1.1', ['Connection: Upgrade', 'Upgrade: websocket'])],
    ['one to another protocol', request('GET /ws HTTP/1.1', ['Connection: Upgrade', 'Upgrade: h2c'])],
    ['CONNECT', request('CONNECT a:80 HTTP/1.1')],
  ])('(%s) cuts the connection, and nothing of it reaches a worker', async (_name, upgrade) => {
    const worker = held()
    const stage = await openStage(worker.act)
    stage.client.send(first)
    const connection = await worker.arrived
    stage.client.send(upgrade)
    expect(await stage.client.rest()).toBe('')
    await connection.rest()
    expect(stage.got).toEqual([forwarded(stage, { line: 'GET /first HTTP/1.1' })])
    expect(await stage.pool.idle()).toBe(0)
  })
})

describe('what is not HTTP', () => {
  test('alone: 400', async () => {
    const stage = await openStage()
    stage.client.send(garbage)
    await expectRefusal(stage, 400, 'REQUEST_MALFORMED')
  })

  test('behind a response: 400', async () => {
    const stage = await openStage()
    stage.client.send(first)
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'GET /first' })
    stage.client.send(garbage)
    await expectRefusal(stage, 400, 'REQUEST_MALFORMED')
  })

  test.each([
    ['in one piece', first + garbage],
    ['in two pieces', first, garbage],
  ])('behind a request that is not answered yet, %s: its response, and then 400', async (_name, ...pieces) => {
    const worker = held()
    const stage = await openStage(worker.act)
    for (const piece of pieces) {
      stage.client.send(piece)
      await worker.arrived
    }
    worker.answer()
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'GET /first' })
    await expectRefusal(stage, 400, 'REQUEST_MALFORMED')
    expect(stage.got).toEqual([forwarded(stage, { line: 'GET /first HTTP/1.1' })])
  })

  test('behind several requests: all of their responses, and then 400', async () => {
    const worker = held()
    const stage = await openStage(worker.act)
    stage.client.send(first + second + first + garbage)
    await worker.arrived
    worker.answer()
    for (const body of ['GET /first', 'GET /second', 'GET /first']) {
      expect(await response(stage.client)).toMatchObject({ status: 200, body })
    }
    await expectRefusal(stage, 400, 'REQUEST_MALFORMED')
  })

  test('within a body that waits for its turn: the response before it, and then 400', async () => {
    const worker = held()
    const stage = await openStage(worker.act)
    stage.client.send(`${first}${upload}zz\r\n`)
    await worker.arrived
    worker.answer()
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'GET /first' })
    await expectRefusal(stage, 400, 'REQUEST_MALFORMED')
    expect(stage.got.join('')).not.toContain('POST')
  })

  test('within a body whose response has begun: that response is cut', async () => {
    const stage = await openEarly('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n')
    stage.client.send(`${upload}3\r\nabc\r\n`)
    await stage.client.take('\r\n\r\n2\r\nok\r\n')
    stage.client.send('zz\r\n')
    expect(await stage.client.rest()).toBe('')
    expect(await stage.pool.idle()).toBe(0)
    expect(stage.got.join('')).not.toContain('\r\n0\r\n\r\n')
  })

  test('within a body that has its response already: the connection is closed without another one', async () => {
    const stage = await openEarly('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    stage.client.send(`${upload}3\r\nabc\r\n`)
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'ok' })
    expect(await stage.pool.idle()).toBe(0)
    stage.client.send('zz\r\n')
    expect(await stage.client.rest()).toBe('')
  })
})

describe('a client that closes its half of the connection', () => {
  test('counts as one that left: nothing more is sent, and its request is given up', async () => {
    const worker = held()
    const stage = await openStage(worker.act)
    stage.client.send(first)
    const connection = await worker.arrived
    stage.client.socket.end()
    expect(await stage.client.rest()).toBe('')
    await connection.rest()
    expect(await stage.pool.idle()).toBe(0)
  })

  test('behind its response gets nothing more', async () => {
    const stage = await openStage()
    stage.client.send(first)
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'GET /first' })
    stage.client.socket.end()
    expect(await stage.client.rest()).toBe('')
  })

  test('within its head: 400', async () => {
    const stage = await openStage()
    stage.client.send(first.slice(0, -2))
    stage.client.socket.end()
    await expectRefusal(stage, 400, 'REQUEST_MALFORMED')
    expect(stage.pool.acquired).toEqual([])
  })

  test.each(['Content-Length: 9', 'Transfer-Encoding: chunked'])(
    'within its body (%s): 400, and the worker never gets an end of it',
    async (field) => {
      const stage = await openStage()
      const body = field.startsWith('C') ? 'abc' : '3\r\nabc\r\n'
      stage.client.send(upload.replace('Transfer-Encoding: chunked', field) + body)
      await stage.pool.until(() => stage.pool.touched > 0)
      stage.client.socket.end()
      await expectRefusal(stage, 400, 'REQUEST_MALFORMED')
      expect(stage.got.join('')).toMatch(/\r\n\r\n(?:3\r\n)?abc(?:\r\n)?$/)
    },
  )

  test('within a body that has its response already gets nothing more', async () => {
    const stage = await openEarly('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    stage.client.send(`${upload}3\r\nabc\r\n`)
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'ok' })
    stage.client.socket.end()
    expect(await stage.client.rest()).toBe('')
    expect(await stage.pool.idle()).toBe(0)
  })

  test('while garbage of it waits for a response counts as one that left, too', async () => {
    const worker = held()
    const stage = await openStage(worker.act)
    stage.client.send(first + garbage)
    const connection = await worker.arrived
    stage.client.socket.end()
    expect(await stage.client.rest()).toBe('')
    await connection.rest()
    expect(await stage.pool.idle()).toBe(0)
  })
})
