import { once } from 'node:events'
import type { Socket } from 'node:net'
import { describe, expect, test, vi } from 'vitest'
import { dial, get, openScene, signal } from './_scene.ts'

const upload = 'POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n'

describe('a client that falls silent within its upload', () => {
  const options = { client: { bodyTimeout: 100 } }

  test('gets 408, and its connection is closed', async () => {
    const { port, pool, failures } = await openScene((req) => req.resume(), options)
    const client = await dial(port)
    client.send(upload)
    const answer = await client.rest()
    expect(answer).toMatch(/^HTTP\/1\.1 408 /)
    expect(answer).toMatch(/\r\nConnection: close\r\n/i)
    expect(answer).toContain('"code":"CLIENT_TIMEOUT"')
    expect(await pool.idle()).toBe(0)
    expect(failures).toMatchObject([{ code: 'CLIENT_TIMEOUT', status: 408 }])
  })

  test('after the head of its response is cut', async () => {
    const { port, pool, failures } = await openScene((req, res) => {
      req.resume()
      res.write('begun')
    }, options)
    const client = await dial(port)
    client.send(upload)
    await client.take('begun\r\n')
    expect(await client.rest()).toBe('')
    expect(await pool.idle()).toBe(0)
    expect(failures).toMatchObject([{ code: 'CLIENT_TIMEOUT', status: undefined }])
  })

  test('is not meant by the limit once its body is complete', async () => {
    const begun = signal()
    const answer = signal()
    const { port } = await openScene((req, res) => {
      req.once('data', () => begun.resolve())
      req.on('end', () => void answer.promise.then(() => res.end('late')))
    }, options)
    const client = await dial(port)
    client.send(upload)
    await begun.promise
    client.send('0\r\n\r\n')
    // Once this one, which began later, has run into the limit, the other would have, too.
    const silent = await dial(port)
    silent.send(upload)
    expect(await silent.rest()).toMatch(/^HTTP\/1\.1 408 /)
    answer.resolve()
    await client.take('late')
  })
})

describe('a client that does not read its response', () => {
  const options = { client: { sendTimeout: 100 } }
  const flood = Buffer.alloc(32 * 1024 * 1024)

  test.each([
    ['of known length, sent in one go', (res: { end: (data: Buffer) => void }) => res.end(flood)],
    ['in chunks', (res: { write: (data: Buffer) => void }) => res.write(flood)],
  ])('%s is cut, and its lease given back', async (_name, answer) => {
    const { port, pool, failures, listener } = await openScene((_req, res) => answer(res), options)
    const accepted = once(listener.server, 'connection') as Promise<[Socket]>
    const client = await dial(port)
    const reset = vi.spyOn((await accepted)[0], 'resetAndDestroy')
    client.socket.pause()
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
    expect(await pool.idle()).toBe(0)
    await expect.poll(() => failures).toMatchObject([{ code: 'CLIENT_TIMEOUT', status: undefined }])
    // Of a mere end the system would keep what waits for the client.
    expect(reset).toHaveBeenCalledTimes(1)
  })

  const small = Buffer.alloc(8 * 1024)

  test.each([
    ['responses', 'X-Session-Id: red'],
    ['refusals', 'X-Session-Id: what no id can be'],
  ])('is cut, however small the %s are that it has asked for', async (_name, field) => {
    const { port, pool, failures } = await openScene((_req, res) => res.end(small), options)
    const client = await dial(port)
    client.socket.pause()
    client.socket.on('error', () => {})
    client.send(`GET / HTTP/1.1\r\nHost: a\r\n${field}\r\n\r\n`.repeat(40_000))
    await expect
      .poll(() => failures.at(-1), { timeout: 15_000 })
      .toMatchObject({ code: 'CLIENT_TIMEOUT', status: undefined })
    await pool.until(() => pool.open === 0)
  })
})

describe('a worker that answers a handshake with a response', () => {
  const handshake =
    'GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'

  test('which the client does not read: it is cut, and the lease given back', async () => {
    const flood = Buffer.alloc(32 * 1024 * 1024)
    const { port, pool, failures } = await openScene((_req, res) => res.end(flood), { client: { sendTimeout: 100 } })
    const client = await dial(port)
    client.socket.pause()
    client.send(handshake)
    await expect.poll(() => failures).toMatchObject([{ code: 'CLIENT_TIMEOUT', status: undefined }])
    expect(await pool.idle()).toBe(0)
  })

  test('and falls silent within it: it is cut after `upstream.bodyTimeout`', async () => {
    const { port, pool, failures } = await openScene((_req, res) => res.write('begun'), {
      upstream: { bodyTimeout: 100 },
    })
    const client = await dial(port)
    client.send(handshake)
    expect(await client.rest()).toMatch(/^HTTP\/1\.1 200 [^]*begun/)
    expect(await pool.idle()).toBe(0)
    expect(failures).toMatchObject([{ code: 'UPSTREAM_TIMEOUT', status: undefined }])
  })
})

test('a target that is too long gets 414 before it costs anything', async () => {
  const { port, pool } = await openScene((_req, res) => res.end('ok'), { client: { targetLength: 100 } })
  expect((await get(port, `/${'a'.repeat(99)}`)).status).toBe(200)
  const { acquired } = pool
  const count = acquired.length
  const response = await get(port, `/${'a'.repeat(100)}`)
  expect([response.status, acquired.length]).toEqual([414, count])
  expect(await response.json()).toMatchObject({ code: 'TARGET_TOO_LONG' })
})

describe('requestsPerSession', () => {
  test('refuses what is beyond it with 429, until one of the others is over', async () => {
    const held = [signal(), signal()]
    let next = 0
    const { port, pool } = await openScene((_req, res) => void held[next++]?.promise.then(() => res.end('ok')), {
      client: { requestsPerSession: 2 },
    })
    const first = get(port, '/')
    const second = get(port, '/')
    await pool.until(() => pool.granted === 2)
    const refused = await get(port, '/')
    expect(refused.status).toBe(429)
    expect(refused.headers.get('retry-after')).toBe('1')
    expect(await refused.json()).toMatchObject({ code: 'SESSION_BUSY' })
    // Another session is another count.
    const other = get(port, '/', { 'x-session-id': 'blue' })
    held[0]?.resolve()
    await first
    held.push(signal())
    held[2]?.resolve()
    held[1]?.resolve()
    expect((await second).status).toBe(200)
    expect((await other).status).toBe(200)
    expect(pool.open).toBe(0)
  })

  test('counts those that wait for the worker, until they have it or have left', async () => {
    const { port, pool } = await openScene((_req, res) => res.end('ok'), { client: { requestsPerSession: 2 } })
    pool.hold()
    const first = get(port, '/')
    const leaving = await dial(port)
    leaving.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
    await pool.until(() => pool.acquired.length === 2)
    const refused = await get(port, '/')
    expect([refused.status, pool.acquired.length]).toEqual([429, 2])
    expect(await refused.json()).toMatchObject({ code: 'SESSION_BUSY' })
    const other = get(port, '/', { 'x-session-id': 'blue' })
    await pool.until(() => pool.acquired.length === 3)
    leaving.socket.destroy()
    await pool.until(() => pool.aborted === 1)
    const third = get(port, '/')
    await pool.until(() => pool.acquired.length === 4)
    expect((await get(port, '/')).status).toBe(429)
    pool.grant()
    expect([(await first).status, (await other).status, (await third).status]).toEqual([200, 200, 200])
    expect((await get(port, '/')).status).toBe(200)
  })
})
