import { once } from 'node:events'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { createServer } from 'node:http'
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { createGateway, fromHeader } from 'corral/h3'
import type { GatewayFailure, ListenOptions } from 'corral/h3'
import { FakePool } from './_pool.ts'
import { type Handler, dial, listenOn } from './_scene.ts'

async function openListener(options: ListenOptions, worker: Handler = (_req, res) => res.end('ok')) {
  const port = await listenOn(createServer({ maxHeaderSize: 65_536 }, (req, res) => void worker(req, res)))
  const pool = new FakePool({ host: '127.0.0.1', port })
  const failures: GatewayFailure[] = []
  const gateway = createGateway(pool.asPool, {
    sessionId: fromHeader('x-session-id'),
    onError: (failure) => failures.push(failure),
  })
  const listener = await gateway.listen({ port: 0, ...options })
  onTestFinished(() => listener.close({ grace: 0 }))
  return { pool, port: listener.port, server: listener.server, failures }
}

describe('a listener', () => {
  test('answers 408 to a head that does not come in time, however it trickles', async () => {
    const { port, pool, failures } = await openListener({ headersTimeout: 200 })
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\n')
    const trickle = setInterval(() => client.send('X-Slow: 1\r\n'), 20)
    onTestFinished(() => clearInterval(trickle))
    expect(await client.rest()).toMatch(/^HTTP\/1\.1 408 [\s\S]*"code":"CLIENT_TIMEOUT"/)
    expect(pool.acquired).toEqual([])
    expect(failures).toMatchObject([{ code: 'CLIENT_TIMEOUT', status: 408, target: undefined }])
  })

  test.each([
    ['it has', 'GET /2 HTTP/1.1\r\nHo', true],
    ['blank lines', '\r\n\r\n', false],
    ['nothing', '', false],
  ])(
    'waits for a request beyond the time that idle connections are kept only where one has begun (%s)',
    async (_what, begun, isKept) => {
      const { port, server } = await openListener({})
      const accepted = once(server, 'connection') as Promise<[Socket]>
      const client = await dial(port)
      const first = 'GET /1 HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n'
      client.send(first + begun)
      await client.take('ok')
      const [socket] = await accepted
      await vi.waitFor(() => expect(socket.bytesRead).toBe(first.length + begun.length))
      // Node's, after the time that idle ones are kept.
      socket.emit('timeout')
      client.send('st: a\r\nX-Session-Id: red\r\nConnection: close\r\n\r\n')
      expect((await client.rest()).includes('HTTP/1.1 200')).toBe(isKept)
    },
  )

  test('ends a kept connection on which nothing but empty lines comes', async () => {
    const { port } = await openListener({ headersTimeout: 100 })
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
    await client.take('ok')
    const trickle = setInterval(() => client.send('\r\n'), 20)
    onTestFinished(() => clearInterval(trickle))
    expect(await client.rest()).toBe('')
  })

  test('answers a request, whatever empty lines come meanwhile', async () => {
    const { port, server } = await openListener(
      { headersTimeout: 50 },
      (_req, res) => void server.once('late', () => res.end('late')),
    )
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n\r\n')
    await delay(100)
    client.send('\r\n')
    await delay(100)
    client.send('\r\n')
    server.emit('late')
    await client.take('late')
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: close\r\n\r\n')
    await vi.waitFor(() => expect(server.listenerCount('late')).toBe(1))
    server.emit('late')
    expect(await client.rest()).toMatch(/^HTTP\/1\.1 200/)
  })

  test('forgets the time limit of an upload where connections are kept for ever', async () => {
    const { port, server } = await openListener({ keepAliveTimeout: 0 }, (req, res) =>
      req.resume().on('end', () => res.end('ok')),
    )
    const accepted = once(server, 'connection') as Promise<[Socket]>
    const client = await dial(port)
    client.send('POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nContent-Length: 6\r\n\r\nabc')
    const [socket] = await accepted
    await vi.waitFor(() => expect(socket.timeout).toBe(60_000))
    client.send('def')
    await client.take('ok')
    expect(socket.timeout).toBe(0)
  })

  test('keeps a connection for the rest of a body whose response is over', async () => {
    const { port, server } = await openListener({})
    const accepted = once(server, 'connection') as Promise<[Socket]>
    const client = await dial(port)
    client.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc')
    await client.take('SESSION_ID_MISSING')
    const [socket] = await accepted
    socket.emit('timeout')
    client.send('defGET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: close\r\n\r\n')
    expect(await client.rest()).toContain('HTTP/1.1 200')
  })

  test('answers 431 to a head that is too large, and takes a larger one where that is wanted', async () => {
    const head = `GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nX-Large: ${'x'.repeat(20_000)}\r\nConnection: close\r\n\r\n`
    const small = await openListener({})
    const refused = await dial(small.port)
    refused.send(head)
    expect(await refused.rest()).toMatch(/^HTTP\/1\.1 431 [\s\S]*"code":"HEADERS_TOO_LARGE"/)
    expect(small.pool.acquired).toEqual([])
    const large = await openListener({ headersSize: 32_768 })
    const taken = await dial(large.port)
    taken.send(head)
    expect(await taken.rest()).toMatch(/^HTTP\/1\.1 200 /)
  })

  test.each([
    ['no host', 'GET / HTTP/1.1\r\nX-Session-Id: red\r\n\r\n', 400, 'REQUEST_INVALID'],
    [
      'an unknown expectation',
      'GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nExpect: foo\r\n\r\n',
      417,
      'EXPECTATION_UNSUPPORTED',
    ],
    ...['x-100-continue', '100-continue, foo', '100-continue;q=1'].map((expected): [string, string, number, string] => [
      `the expectation ${expected}`,
      `POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nExpect: ${expected}\r\nContent-Length: 3\r\n\r\n`,
      417,
      'EXPECTATION_UNSUPPORTED',
    ]),
    ['no HTTP at all', 'hello\r\n\r\n', 400, 'REQUEST_MALFORMED'],
  ])('answers a request with %s by itself, and tells of it', async (_what, text, status, code) => {
    const { port, pool, failures } = await openListener({})
    const client = await dial(port)
    client.send(text)
    expect(await client.head()).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
    await client.take(`"code":"${code}"}`)
    expect(pool.acquired).toEqual([])
    expect(failures).toMatchObject([{ code, status }])
  })

  test('closes an idle connection after keepAliveTimeout', async () => {
    const { port } = await openListener({ keepAliveTimeout: 50 })
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
    expect(await client.rest()).toMatch(/\r\nKeep-Alive: timeout=0\r\n[\s\S]*ok/)
  })

  test.each<[string, ListenOptions]>([
    ['headersTimeout', { headersTimeout: -1 }],
    ['headersSize', { headersSize: 0 }],
    ['keepAliveTimeout', { keepAliveTimeout: Number.NaN }],
    ['tls.cert', { tls: {} as never }],
    ['tls', { tls: 'yes' as never }],
  ])('refuses %s that makes no sense', async (option, options) => {
    await expect(openListener(options)).rejects.toThrow(`"${option}"`)
  })
})
