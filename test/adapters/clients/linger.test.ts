import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { expect, onTestFinished, test, vi } from 'vitest'
import { lingerWithin } from '../../../src/adapters/clients/linger.ts'
import { takeTurns } from '../../../src/adapters/clients/slices.ts'
import { TurnBudget } from '../../../src/adapters/clients/turn-budget.ts'

/** A client in the middle of an upload that has been answered, and the server's end of its connection. */
async function open() {
  const server = createServer()
  takeTurns(server, new TurnBudget())
  server.on('clientError', () => {})
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true })
  client.on('error', () => {}).resume()
  onTestFinished(async () => {
    client.destroy()
    await new Promise((resolve) => server.close(resolve))
  })
  client.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nx')
  const [req, res] = (await once(server, 'request')) as [IncomingMessage, ServerResponse]
  req.resume()
  const requests: unknown[] = []
  server.on('request', (next) => requests.push(next))
  return { client, req, res, ours: req.socket, requests }
}

test('a connection that ends within an upload ends behind the response, is read no further, and is closed after ten seconds', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  onTestFinished(() => void vi.useRealTimers())
  const { client, req, res, ours, requests } = await open()
  lingerWithin(req, res)()
  res.write('first')
  await once(client, 'data')
  expect(ours.writableEnded).toBe(false)
  const ended = once(client, 'end')
  res.end()
  await ended
  const behind = `${'x'.repeat(98)}GET /next HTTP/1.1\r\nHost: a\r\n\r\n`
  const { bytesRead } = ours
  client.write(behind)
  while (ours.bytesRead < bytesRead + behind.length) await new Promise(setImmediate)
  vi.advanceTimersByTime(9_999)
  expect(ours.destroyed).toBe(false)
  const closed = once(ours, 'close')
  vi.advanceTimersByTime(1)
  await closed
  expect(requests).toEqual([])
})

test('one that is closed by itself behind the response does so, too, and one whose upload has come to its end does not', async () => {
  const { client, req, res, ours } = await open()
  lingerWithin(req, res)
  client.write('x'.repeat(98))
  await once(req, 'close')
  const closed = once(ours, 'close')
  res.setHeader('connection', 'close').end('all')
  await closed
  expect(client.destroyed).toBe(false)
})

test('a connection that ends within an upload is closed when its client ends, too', async () => {
  const { client, req, res, ours } = await open()
  res.end('all')
  lingerWithin(req, res)()
  await once(client, 'end')
  client.write('x'.repeat(1_000_000))
  const closed = once(ours, 'close')
  client.end()
  await closed
})
