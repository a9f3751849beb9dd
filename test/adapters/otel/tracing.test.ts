import { once } from 'node:events'
import type { IncomingHttpHeaders } from 'node:http'
import { connect, createServer } from 'node:http2'
import { type TextMapPropagator, SpanKind, SpanStatusCode, propagation, trace } from '@opentelemetry/api'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import {
  AlwaysOffSampler,
  BasicTracerProvider,
  BatchSpanProcessor,
  InMemorySpanExporter,
  type ReadableSpan,
  type Sampler,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base'
import { WebSocket, WebSocketServer } from 'ws'
import { QueueFullError } from 'corral'
import type { GatewayOptions } from 'corral/h3'
import { type TracingOptions, createTracing } from 'corral/otel'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type Handler, dial, get, httpWorker, listenOn, openScene, rawWorker, signal } from '../h3/_scene.ts'

const traceId = '0af7651916cd43dd8448eb211c80319c'
const clientSpan = 'b7ad6b7169203331'
const traceparent = `00-${traceId}-${clientSpan}-01`

/** A traced gateway, and the spans that are over. */
async function traced(
  worker: Handler | Parameters<typeof openScene>[0],
  { sampler, ...options }: TracingOptions & { sampler?: Sampler } = {},
  gatewayOptions: Partial<GatewayOptions> = {},
) {
  const exporter = new InMemorySpanExporter()
  const waiting: (() => void)[] = []
  const processor = new SimpleSpanProcessor(exporter)
  const tracerProvider = new BasicTracerProvider({
    ...(sampler && { sampler }),
    spanProcessors: [
      processor,
      {
        onStart: () => {},
        onEnd: () => queueMicrotask(() => waiting.splice(0).forEach((resolve) => resolve())),
        forceFlush: () => Promise.resolve(),
        shutdown: () => Promise.resolve(),
      },
    ],
  })
  const propagator = new W3CTraceContextPropagator()
  const { trace } = await createTracing({ tracerProvider, propagator, ...options })
  const scene = await openScene(worker, { trace, ...gatewayOptions })
  const spans = async (count: number): Promise<ReadableSpan[]> => {
    while (exporter.getFinishedSpans().length < count) {
      await new Promise<void>((resolve) => waiting.push(resolve))
    }
    return exporter.getFinishedSpans()
  }
  const span = async () => (await spans(1))[0] as ReadableSpan
  return { ...scene, spans, span }
}

/** A worker that remembers the headers that it was sent. */
function listener(): { worker: Handler; seen: IncomingHttpHeaders[] } {
  const seen: IncomingHttpHeaders[] = []
  return {
    seen,
    worker: (req, res) => {
      seen.push(req.headers)
      res.end('ok')
    },
  }
}

describe('a request', () => {
  test('is a SERVER span, with the attributes of the semantic conventions', async () => {
    const { worker } = listener()
    const { port, span } = await traced(worker)
    await (await get(port, '/path?secret=1', { 'user-agent': 'test/1' })).text()
    const { name, kind, attributes, status, ended, events } = await span()
    expect({ name, kind, ended }).toEqual({ name: 'GET', kind: SpanKind.SERVER, ended: true })
    expect(attributes).toEqual({
      'http.request.method': 'GET',
      'http.response.status_code': 200,
      'url.scheme': 'http',
      'url.path': '/path',
      'network.protocol.version': '1.1',
      'network.peer.address': '127.0.0.1',
      'network.peer.port': expect.any(Number),
      'client.address': '127.0.0.1',
      'server.address': '127.0.0.1',
      'server.port': port,
      'user_agent.original': 'test/1',
      'corral.kind': 'http',
      'corral.outcome': 'answered',
      'corral.worker.id': 'w1',
      'corral.bytes.received': 0,
      'corral.bytes.sent': 2,
    })
    expect(status.code).toBe(SpanStatusCode.UNSET)
    expect(events.map((event) => event.name)).toEqual(['worker acquired'])
  })

  test('is a child of the client’s span, and the parent of the worker’s', async () => {
    const { worker, seen } = listener()
    const { port, span } = await traced(worker)
    await (await get(port, '/', { traceparent, tracestate: 'vendor=1' })).text()
    const { parentSpanContext } = await span()
    const context = (await span()).spanContext()
    expect(context.traceId).toBe(traceId)
    expect(parentSpanContext).toMatchObject({ spanId: clientSpan, isRemote: true })
    expect(seen).toHaveLength(1)
    expect(seen[0]).toMatchObject({ traceparent: `00-${traceId}-${context.spanId}-01`, tracestate: 'vendor=1' })
  })

  test('begins a trace when the client has none, or one that is malformed', async () => {
    const { worker, seen } = listener()
    const { port, spans } = await traced(worker)
    await (await get(port, '/')).text()
    await (await get(port, '/', { traceparent: '00-0-0-00', tracestate: 'vendor=1' })).text()
    for (const [index, span] of (await spans(2)).entries()) {
      const { traceId: id, spanId } = span.spanContext()
      expect(span.parentSpanContext).toBeUndefined()
      expect(seen[index]?.['traceparent']).toBe(`00-${id}-${spanId}-01`)
      // It belongs to a traceparent that was not taken.
      expect(seen[index]).not.toHaveProperty('tracestate')
    }
  })

  test('that is not sampled is passed on as such', async () => {
    const { worker, seen } = listener()
    const { port } = await traced(worker, { sampler: new AlwaysOffSampler() })
    await (await get(port, '/', { traceparent })).text()
    expect(seen[0]?.['traceparent']).toMatch(new RegExp(`^00-${traceId}-[0-9a-f]{16}-00$`))
    expect(seen[0]?.['traceparent']).not.toContain(clientSpan)
  })

  test('that waits for a worker shows for how long', async () => {
    const { worker } = listener()
    const { port, pool, span } = await traced(worker)
    pool.hold()
    const response = get(port, '/')
    await pool.until(() => pool.acquired.length === 1)
    pool.grant()
    await (await response).text()
    const { events, startTime, endTime } = await span()
    const [acquired] = events
    expect(toMs(acquired?.time)).toBeGreaterThanOrEqual(toMs(startTime))
    expect(toMs(acquired?.time)).toBeLessThanOrEqual(toMs(endTime))
  })

  test('that is refused has failed when it is the server’s doing', async () => {
    const { worker } = listener()
    const { port, pool, spans } = await traced(worker)
    await fetch(`http://127.0.0.1:${port}/`)
    pool.refusal = new QueueFullError('red', 1)
    await get(port, '/')
    const [missing, full] = await spans(2)
    expect(missing?.attributes).toMatchObject({ 'http.response.status_code': 400, 'corral.code': 'SESSION_ID_MISSING' })
    expect(missing?.attributes).not.toHaveProperty('error.type')
    expect(missing?.status.code).toBe(SpanStatusCode.UNSET)
    expect(full?.attributes).toMatchObject({ 'http.response.status_code': 503, 'error.type': 'QUEUE_FULL' })
    expect(full?.status.code).toBe(SpanStatusCode.ERROR)
    expect(full?.events).toEqual([])
  })

  test('that the worker answers with 500 has failed, with 404 it has not', async () => {
    const { port, spans } = await traced((req, res) => res.writeHead(Number(req.url?.slice(1))).end())
    await get(port, '/500')
    await get(port, '/404')
    const [broken, missing] = await spans(2)
    expect(broken?.attributes).toMatchObject({ 'error.type': '500' })
    expect(broken?.status.code).toBe(SpanStatusCode.ERROR)
    expect(missing?.status.code).toBe(SpanStatusCode.UNSET)
  })

  test('that is cut has failed', async () => {
    const worker = rawWorker(async (connection) => {
      await connection.head()
      connection.send('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf')
      connection.socket.destroySoon()
    })
    const { port, span } = await traced(worker)
    await expect(get(port, '/').then((response) => response.text())).rejects.toThrow('terminated')
    const { attributes, status } = await span()
    expect(attributes).toMatchObject({ 'corral.outcome': 'cut', 'error.type': 'UPSTREAM_FAILED' })
    expect(status.code).toBe(SpanStatusCode.ERROR)
  })

  test('whose client leaves ends its span', async () => {
    const { port, pool, span } = await traced(listener().worker)
    pool.hold()
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
    await pool.until(() => pool.acquired.length === 1)
    client.socket.destroy()
    const { attributes } = await span()
    expect(attributes).toMatchObject({ 'corral.outcome': 'left' })
    expect(attributes).not.toHaveProperty('http.response.status_code')
  })

  test('has neither its query nor its session’s id in the span, except on request', async () => {
    const { worker } = listener()
    const quiet = await traced(worker)
    await (await get(quiet.port, '/?secret=1', { 'x-session-id': 'the-id' })).text()
    expect(JSON.stringify((await quiet.span()).attributes)).not.toMatch(/secret|the-id/)
    const open = await traced(worker, { sessionIds: true, queries: true })
    await (await get(open.port, '/?q=1', { 'x-session-id': 'the-id' })).text()
    expect((await open.span()).attributes).toMatchObject({ 'url.query': 'q=1', 'session.id': 'the-id' })
  })

  test('behind a proxy that is trusted has the scheme and the server that the client saw', async () => {
    const forwarded = {
      'x-forwarded-for': '203.0.113.9',
      'x-forwarded-proto': 'https',
      'x-forwarded-host': 'app.test',
      'x-forwarded-port': '444',
    }
    const behind = await traced(listener().worker, {}, { trustForwarded: true })
    await (await get(behind.port, '/', forwarded)).text()
    expect((await behind.span()).attributes).toMatchObject({
      'url.scheme': 'https',
      'server.address': 'app.test',
      'server.port': 444,
      'client.address': '203.0.113.9',
    })
    const alone = await traced(listener().worker)
    await (await get(alone.port, '/', forwarded)).text()
    expect((await alone.span()).attributes).toMatchObject({
      'url.scheme': 'http',
      'server.address': '127.0.0.1',
      'server.port': alone.port,
      'client.address': '127.0.0.1',
    })
  })

  test('of a method that is unknown has a name that is known', async () => {
    const { port, span } = await traced(listener().worker)
    const client = await dial(port)
    client.send(
      'PROPFIND http://127.0.0.1/x?y HTTP/1.1\r\nHost: [::1]:80\r\nX-Session-Id: red\r\nConnection: close\r\n\r\n',
    )
    await client.rest()
    const { name, attributes } = await span()
    expect(name).toBe('HTTP')
    expect(attributes).toMatchObject({
      'http.request.method': '_OTHER',
      'http.request.method_original': 'PROPFIND',
      'url.path': '/x',
      'server.address': '::1',
      'server.port': 80,
    })
  })
})

test('a request of HTTP/2 has the version and the authority that it names', async () => {
  const { worker, seen } = listener()
  const { gateway, span } = await traced(worker)
  const server = createServer(gateway.handler as unknown as Parameters<typeof createServer>[1])
  const client = connect(`http://127.0.0.1:${await listenOn(server)}`)
  onTestFinished(() => client.destroy())
  const stream = client.request({ ':authority': 'app.test:443', 'x-session-id': 'red', traceparent })
  await once(stream.resume(), 'end')
  expect((await span()).attributes).toMatchObject({
    'network.protocol.version': '2',
    'server.address': 'app.test',
    'server.port': 443,
  })
  expect(seen[0]?.['traceparent']).toBe(`00-${traceId}-${(await span()).spanContext().spanId}-01`)
})

test('a WebSocket is a span from its handshake to its end, and the parent of the worker’s', async () => {
  const worker = httpWorker((_req, res) => res.end())
  const handshakes: IncomingHttpHeaders[] = []
  new WebSocketServer({ server: worker }).on('connection', (socket, req) => {
    handshakes.push(req.headers)
    socket.on('message', (data) => socket.send(data))
  })
  const { port, span } = await traced(worker)
  const socket = new WebSocket(`ws://127.0.0.1:${port}/live`, { headers: { 'x-session-id': 'red', traceparent } })
  onTestFinished(() => socket.terminate())
  await once(socket, 'open')
  socket.send('hello')
  await once(socket, 'message')
  socket.close()
  const { attributes, name } = await span()
  expect(name).toBe('GET')
  expect(attributes).toMatchObject({
    'http.response.status_code': 101,
    'corral.kind': 'websocket',
    'url.path': '/live',
  })
  expect(handshakes[0]?.['traceparent']).toBe(`00-${traceId}-${(await span()).spanContext().spanId}-01`)
})

describe('without tracing', () => {
  test.each(['http', 'websocket'] as const)('the client’s context reaches the worker as it is: %s', async (kind) => {
    const seen: IncomingHttpHeaders[] = []
    const worker = httpWorker((req, res) => {
      seen.push(req.headers)
      res.end()
    })
    new WebSocketServer({ server: worker }).on('connection', (_socket, req) => seen.push(req.headers))
    const { port } = await openScene(worker)
    const headers = { 'x-session-id': 'red', traceparent, tracestate: 'a=1,b=2' }
    if (kind === 'http') {
      await (await get(port, '/', headers)).text()
    } else {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/`, { headers })
      await once(socket, 'open')
      socket.terminate()
    }
    expect(seen[0]).toMatchObject({ traceparent, tracestate: 'a=1,b=2' })
  })
})

describe('without an SDK', () => {
  test('the client’s context reaches the worker as it is', async () => {
    const { worker, seen } = listener()
    const { trace } = await createTracing()
    const { port } = await openScene(worker, { trace })
    await (await get(port, '/', { traceparent, tracestate: 'vendor=1' })).text()
    expect(seen[0]).toMatchObject({ traceparent, tracestate: 'vendor=1' })
  })
})

test('the SDK that is registered globally is used', async () => {
  const exporter = new InMemorySpanExporter()
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
  trace.setGlobalTracerProvider(provider)
  propagation.setGlobalPropagator(new W3CTraceContextPropagator())
  onTestFinished(() => {
    trace.disable()
    propagation.disable()
  })
  const { worker, seen } = listener()
  const tracing = await createTracing()
  const { port } = await openScene(worker, { trace: tracing.trace })
  await (await get(port, '/', { traceparent })).text()
  expect(seen[0]?.['traceparent']).toMatch(new RegExp(`^00-${traceId}-(?!${clientSpan})[0-9a-f]{16}-01$`))
})

test('whether an SDK takes the spans shows as soon as there is one', async () => {
  const tracing = await createTracing()
  expect(tracing.hasSdk()).toBe(false)
  trace.setGlobalTracerProvider(new BasicTracerProvider())
  onTestFinished(() => trace.disable())
  expect(tracing.hasSdk()).toBe(true)
  expect((await createTracing({ tracerProvider: new BasicTracerProvider() })).hasSdk()).toBe(true)
})

test('flush exports what is held back, where the SDK can', async () => {
  const exporter = new InMemorySpanExporter()
  const tracerProvider = new BasicTracerProvider({ spanProcessors: [new BatchSpanProcessor(exporter)] })
  onTestFinished(() => tracerProvider.shutdown())
  const tracing = await createTracing({ tracerProvider })
  const ended = signal()
  const { port } = await openScene(listener().worker, { trace: tracing.trace, onRequest: () => ended.resolve() })
  await (await get(port, '/')).text()
  await ended.promise
  expect(exporter.getFinishedSpans()).toEqual([])
  await tracing.flush()
  expect(exporter.getFinishedSpans()).toHaveLength(1)
  await (await createTracing()).flush()
})

describe('an option is refused', () => {
  test.each([
    { tracerProvider: {} },
    { tracerProvider: null },
    { propagator: {} as TextMapPropagator },
    { sessionIds: 1 },
    { queries: 'yes' },
    { tracer: 1 },
  ])('%j', async (options) => {
    await expect(createTracing(options as TracingOptions)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  })
})

function toMs(time: readonly [number, number] | undefined): number {
  return time === undefined ? Number.NaN : time[0] * 1e3 + time[1] / 1e6
}
