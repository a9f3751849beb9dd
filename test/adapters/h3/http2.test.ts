import { once } from 'node:events'
import type { ClientHttp2Stream, Http2Server, IncomingHttpHeaders, Settings } from 'node:http2'
import { connect, constants, createServer } from 'node:http2'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createGateway, fromHeader } from 'corral/h3'
import type { GatewayFailure, GatewayOptions, RequestRecord } from 'corral/h3'
import { FakePool } from './_pool.ts'
import type { Handler } from './_scene.ts'
import { httpWorker, listenOn, textOf } from './_scene.ts'

async function openHttp2(worker: Handler, options: Partial<GatewayOptions> = {}, settings: Settings = {}) {
  const pool = new FakePool({ host: '127.0.0.1', port: await listenOn(httpWorker(worker)) })
  const gateway = createGateway(pool.asPool, { sessionId: fromHeader('x-session-id'), ...options })
  const server: Http2Server = createServer(gateway.handler as unknown as Parameters<typeof createServer>[1])
  const port = await listenOn(server)
  const client = connect(`http://127.0.0.1:${port}`, { settings })
  onTestFinished(() => client.destroy())
  return { pool, port, client, gateway }
}

type Client = Awaited<ReturnType<typeof openHttp2>>['client']

async function send(client: Client, headers: Record<string, string | string[]>, body?: string) {
  const stream = client.request({ 'x-session-id': 'red', ...headers }, { endStream: body === undefined })
  if (body !== undefined) stream.end(body)
  let head: IncomingHttpHeaders = {}
  let trailers: IncomingHttpHeaders = {}
  stream.on('response', (fields) => {
    head = fields
  })
  stream.on('trailers', (fields) => {
    trailers = fields
  })
  let text = ''
  for await (const chunk of stream.setEncoding('utf8')) text += chunk
  return { head, text, trailers }
}

test('requests and responses of HTTP/2 are forwarded', async () => {
  const { client, pool, port } = await openHttp2(async (req, res) => {
    res.writeHead(201, { 'set-cookie': ['a=1', 'b=2'], trailer: 'x-sum' })
    const { host, cookie, forwarded } = req.headers
    res.write(`${req.method} ${req.url} ${host === undefined} ${cookie} ${forwarded} ${await textOf(req)}`)
    res.addTrailers({ 'x-sum': '1' })
    res.end()
  })
  const plain = await send(client, { ':path': '/a?%41', cookie: ['a=1', 'b=2'] })
  expect(plain.head).toMatchObject({ ':status': 201, 'set-cookie': ['a=1', 'b=2'] })
  expect(plain.trailers).toMatchObject({ 'x-sum': '1' })
  expect(plain.text).toBe(`GET /a?%41 false a=1; b=2 for=127.0.0.1;host="127.0.0.1:${port}";proto=http `)
  const upload = await send(client, { ':method': 'POST', ':path': '/' }, 'body')
  expect(upload.text).toMatch(/^POST \/ .* body$/)
  expect(await pool.idle()).toBe(0)
})

test('a response of HTTP/2 that breaks off is an error', async () => {
  const { client, pool } = await openHttp2((req, res) => {
    res.write('half')
    setImmediate(() => req.socket.destroy())
  })
  await expect(send(client, { ':path': '/' })).rejects.toThrow('NGHTTP2_INTERNAL_ERROR')
  expect(await pool.idle()).toBe(0)
})

test.each([
  ['a worker', { 'x-session-id': 'red' }, 413, 'no'],
  ['the gateway', { 'x-session-id': 'no good' }, 400, /SESSION_ID_INVALID/],
])(
  'an upload of HTTP/2 that %s answers early is over with the whole of the answer',
  async (_who, headers, status, body) => {
    const { client, pool } = await openHttp2((req, res) => {
      res.writeHead(413, { 'content-length': 2 })
      res.end('no')
      req.resume()
    })
    const stream = client.request({ ':method': 'POST', ':path': '/', ...headers })
    const head = once(stream, 'response') as Promise<[IncomingHttpHeaders]>
    const closed = once(stream, 'close')
    stream.end(Buffer.alloc(6_000_000))
    let text = ''
    for await (const chunk of stream.setEncoding('utf8')) text += chunk
    await closed
    expect((await head)[0][':status']).toBe(status)
    expect(text).toMatch(body)
    expect(stream.rstCode).toBe(constants.NGHTTP2_NO_ERROR)
    await pool.until(() => pool.open === 0)
  },
)

test('a client of HTTP/2 that leaves releases the lease', async () => {
  const { client, pool } = await openHttp2(() => {})
  const stream = client.request({ ':path': '/', 'x-session-id': 'red' })
  stream.on('error', () => {})
  await pool.until(() => pool.granted === 1)
  stream.close()
  expect(await pool.idle()).toBe(0)
})

describe('a client of HTTP/2 that does not take its response', () => {
  const flood: Handler = (_req, res) => res.end(Buffer.alloc(8 * 1024 * 1024))

  /** A stream whose window is used up. */
  async function openBlocked(client: Client): Promise<ClientHttp2Stream> {
    const stream = client.request({ ':path': '/', 'x-session-id': 'red' })
    stream.on('error', () => {})
    await expect.poll(() => stream.readableLength).toBe(65_535)
    return stream
  }

  test.each([constants.NGHTTP2_NO_ERROR, constants.NGHTTP2_CANCEL])(
    'releases the lease when it resets the stream with code %i',
    async (code) => {
      const { client, pool, gateway } = await openHttp2(flood)
      const stream = await openBlocked(client)
      stream.close(code)
      expect(await pool.idle()).toBe(0)
      expect(gateway.stats().requests).toBe(0)
    },
  )

  test('releases it when it goes without a word', async () => {
    const { client, pool, gateway } = await openHttp2(flood)
    const stream = await openBlocked(client)
    stream.destroy()
    client.destroy()
    expect(await pool.idle()).toBe(0)
    expect(gateway.stats().requests).toBe(0)
  })

  test.each([
    ['small', (_req, res) => res.end('small')],
    ['large', flood],
  ] satisfies [string, Handler][])('is cut after `client.sendTimeout`, be it %s', async (_size, worker) => {
    const failures: GatewayFailure[] = []
    const options = { client: { sendTimeout: 100 }, onError: (failure: GatewayFailure) => failures.push(failure) }
    const { client, pool } = await openHttp2(worker, options, { initialWindowSize: 0 })
    const stream = client.request({ ':path': '/', 'x-session-id': 'red' })
    const [error] = (await once(stream, 'error').catch((thrown: unknown) => [thrown])) as [Error]
    expect(error.message).toContain('NGHTTP2_INTERNAL_ERROR')
    expect(failures).toMatchObject([{ code: 'CLIENT_TIMEOUT', status: undefined }])
    expect(await pool.idle()).toBe(0)
  })

  test('is not cut while its connection takes what waits for it, however little', async () => {
    const options = { client: { sendTimeout: 200 } }
    const { client, pool } = await openHttp2(flood, options, { initialWindowSize: 0 })
    const stream = client.request({ ':path': '/', 'x-session-id': 'red' })
    stream.on('error', () => {})
    await once(stream, 'response')
    let acknowledged = 0
    // What answers a ping moves the connection as what other streams bring does.
    while (acknowledged < 20 && !stream.closed) {
      await new Promise((resolve) => void client.ping(resolve))
      await new Promise((resolve) => void setTimeout(resolve, 30))
      acknowledged++
    }
    expect(acknowledged).toBe(20)
    stream.close(constants.NGHTTP2_CANCEL)
    expect(await pool.idle()).toBe(0)
  })

  test('and has reset a stream of which all is written is forgotten after `client.sendTimeout`', async () => {
    const options = { client: { sendTimeout: 100 } }
    const { client, pool } = await openHttp2((_req, res) => res.end('small'), options, { initialWindowSize: 0 })
    const stream = client.request({ ':path': '/', 'x-session-id': 'red' })
    await once(stream, 'response')
    stream.close(constants.NGHTTP2_NO_ERROR)
    expect(await pool.idle()).toBe(0)
  })
})

describe('an upload by HTTP/2 whose response is over', () => {
  test.each([
    ['answered', 200, (_req, res) => res.end('enough'), {}],
    ['refused', 408, () => {}, { client: { bodyTimeout: 100 } }],
  ] satisfies [string, number, Handler, Partial<GatewayOptions>][])(
    'holds nothing: %s',
    async (how, status, worker, options) => {
      const records: RequestRecord[] = []
      const onRequest = (record: RequestRecord) => records.push(record)
      const { client, pool, gateway } = await openHttp2(worker, { ...options, onRequest })
      const stream = client.request({ ':path': '/', ':method': 'POST', 'x-session-id': 'red' })
      stream.write('begun')
      const head = once(stream, 'response')
      await once(stream.resume(), 'end')
      expect((await head)[0]).toMatchObject({ ':status': status })
      expect(await pool.idle()).toBe(0)
      expect(gateway.stats().requests).toBe(0)
      await expect.poll(() => records).toMatchObject([{ outcome: how, status }])
      stream.write('more')
    },
  )
})

test('problems are answered by HTTP/2 too', async () => {
  const { client } = await openHttp2(() => {})
  const { head, text } = await send(client, { ':method': 'POST', ':path': '/', 'x-session-id': '?' }, 'x')
  expect(head[':status']).toBe(400)
  expect(text).toContain('SESSION_ID_INVALID')
})
