import { once } from 'node:events'
import { WebSocket, WebSocketServer } from 'ws'
import { AcquireTimeoutError, QueueFullError } from 'corral'
import type { RequestRecord } from 'corral/h3'
import { createMetrics } from 'corral/metrics'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type Handler, dial, get, httpWorker, openScene } from '../h3/_scene.ts'
import { parseExposition, valueOf } from './_exposition.ts'

/** A gateway whose requests are counted. `over` resolves when that many have been. */
async function counted(worker: Handler | Parameters<typeof openScene>[0]) {
  const metrics = await createMetrics()
  const records: RequestRecord[] = []
  let changed = () => {}
  const scene = await openScene(worker, {
    onRequest: (record) => {
      metrics.onRequest(record)
      records.push(record)
      changed()
    },
    onError: metrics.onError,
  })
  metrics.watch({ stats: () => undefined } as never, scene.gateway)
  const over = async (count: number) => {
    while (records.length < count) await new Promise<void>((resolve) => (changed = resolve))
  }
  const read = async (name: string, labels?: Record<string, string>) => valueOf(await metrics.render(), name, labels)
  return { ...scene, metrics, records, over, read }
}

test.each<[string, string]>([
  ['REQUEST_MALFORMED', 'no HTTP\r\n\r\n'],
  ['HEADERS_TOO_LARGE', `GET / HTTP/1.1\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`],
  ['HTTP_VERSION_UNSUPPORTED', 'GET / HTTP/1.2\r\nHost: a\r\n\r\n'],
])('what is refused with %s before there is a request is counted once, and as no request', async (code, text) => {
  const { port, records, metrics, read } = await counted((_req, res) => res.end())
  for (const other of ['REQUEST_MALFORMED', 'HEADERS_TOO_LARGE', 'HTTP_VERSION_UNSUPPORTED', 'CLIENT_TIMEOUT']) {
    expect(await read('corral_malformed_requests_total', { code: other })).toBe(0)
  }
  const client = await dial(port)
  client.send(text)
  await client.rest()
  expect(await read('corral_malformed_requests_total', { code })).toBe(1)
  expect(records).toEqual([])
  // A request that is refused, which onError hears of, too.
  await (await fetch(`http://127.0.0.1:${port}/`)).text()
  expect(await metrics.render()).not.toContain('corral_malformed_requests_total{code="SESSION_ID_MISSING"}')
})

describe('requests are counted', () => {
  test('with their bytes, wait and duration when the worker has answered', async () => {
    const { port, over, read } = await counted((req, res) => {
      req.resume().on('end', () => res.writeHead(201).end('12345'))
    })
    const init = { method: 'POST', body: 'abc', headers: { 'x-session-id': 'red' } }
    await (await fetch(`http://127.0.0.1:${port}/`, init)).text()
    await over(1)
    const labels = { kind: 'http', outcome: 'answered' }
    expect(await read('corral_requests_total', { ...labels, status: '2xx', code: '' })).toBe(1)
    expect(await read('corral_received_bytes_total', labels)).toBe(3)
    expect(await read('corral_sent_bytes_total', labels)).toBe(5)
    expect(await read('corral_request_duration_seconds_count', { outcome: 'answered' })).toBe(1)
    expect(await read('corral_acquire_wait_seconds_count', { outcome: 'granted' })).toBe(1)
  })

  test('by the class of the status that the worker answered', async () => {
    const { port, over, read } = await counted((req, res) => res.writeHead(Number(req.url?.slice(1))).end())
    for (const status of [200, 204, 304, 404, 418, 500]) await (await get(port, `/${status}`)).text()
    await over(6)
    const of = (status: string) => read('corral_requests_total', { outcome: 'answered', status })
    expect([await of('2xx'), await of('3xx'), await of('4xx'), await of('5xx')]).toEqual([2, 1, 2, 1])
  })

  test('by the code that they were refused with', async () => {
    const { port, pool, over, read } = await counted((_req, res) => res.end())
    await get(port, '/', { 'x-session-id': '' })
    pool.refusal = new QueueFullError('red', 1)
    await get(port, '/')
    pool.refusal = new AcquireTimeoutError('red', 1)
    await get(port, '/')
    await over(3)
    const refused = { kind: 'http', outcome: 'refused' }
    expect(await read('corral_requests_total', { ...refused, status: '5xx', code: 'QUEUE_FULL' })).toBe(1)
    expect(await read('corral_requests_total', { ...refused, status: '5xx', code: 'ACQUIRE_TIMEOUT' })).toBe(1)
    expect(await read('corral_acquire_wait_seconds_count', { outcome: 'queue_full' })).toBe(1)
    expect(await read('corral_acquire_wait_seconds_count', { outcome: 'timeout' })).toBe(1)
    // Without an id there is nothing to wait for.
    expect(await read('corral_acquire_wait_seconds_count', { outcome: 'granted' })).toBeUndefined()
  })

  test('when the client left while it waited', async () => {
    const { port, pool, over, read } = await counted((_req, res) => res.end())
    pool.hold()
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
    await pool.until(() => pool.acquired.length === 1)
    client.socket.destroy()
    await over(1)
    expect(await read('corral_requests_total', { outcome: 'left', status: '' })).toBe(1)
    expect(await read('corral_acquire_wait_seconds_count', { outcome: 'left' })).toBe(1)
  })

  test('as WebSockets, when those are over', async () => {
    const worker = httpWorker((_req, res) => res.end())
    new WebSocketServer({ server: worker }).on('connection', (socket) =>
      socket.on('message', (data) => socket.send(data)),
    )
    const { port, over, read } = await counted(worker)
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`, { headers: { 'x-session-id': 'red' } })
    onTestFinished(() => socket.terminate())
    await once(socket, 'open')
    socket.send('hello')
    await once(socket, 'message')
    expect(await read('corral_requests_in_progress', { kind: 'websocket' })).toBe(1)
    expect(await read('corral_requests_total', { kind: 'websocket' })).toBeUndefined()
    socket.close()
    await over(1)
    expect(await read('corral_requests_total', { kind: 'websocket', outcome: 'answered', status: '1xx' })).toBe(1)
    expect(await read('corral_received_bytes_total', { kind: 'websocket' })).toBeGreaterThan(5)
    expect(await read('corral_requests_in_progress', { kind: 'websocket' })).toBe(0)
    expect(await read('corral_request_duration_seconds_count', { outcome: 'answered' })).toBeUndefined()
  })
})

test('no id, path or method of a stranger becomes a label: the series stay few', async () => {
  const { port, metrics, over } = await counted((req, res) =>
    res.writeHead(200 + (Number(req.url?.slice(2)) % 2)).end(),
  )
  const seriesOf = async () =>
    [...parseExposition(await metrics.render()).values()].reduce((sum, { samples }) => sum + samples.length, 0)
  const ask = async (from: number, count: number) => {
    for (let i = from; i < from + count; i++) {
      const init = { method: i % 3 === 0 ? 'DELETE' : 'GET', headers: { 'x-session-id': `session-${i}` } }
      await (await fetch(`http://127.0.0.1:${port}/?${i}`, init)).text()
    }
    await over(from + count)
  }
  await ask(0, 4)
  const before = await seriesOf()
  await ask(4, 40)
  expect(await seriesOf()).toBe(before)
  expect(await metrics.render()).not.toContain('session-')
})
