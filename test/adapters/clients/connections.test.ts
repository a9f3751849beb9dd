import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect, Server as NetServer } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { expect, test } from 'vitest'
import { createGateway, fromHeader } from 'corral/h3'
import { Connections } from '../../../src/adapters/clients/connections.ts'
import { TurnBudget } from '../../../src/adapters/clients/turn-budget.ts'
import { FakePool } from '../h3/_pool.ts'
import { dial, httpWorker, listenOn, signal } from '../h3/_scene.ts'

/** A gateway, and a client that has sent it a request. */
async function openClient(pool: FakePool, tls: boolean) {
  const gateway = createGateway(pool.asPool, { sessionId: fromHeader('x-session-id') })
  const listener = await gateway.listen({ port: 0, tls })
  const { port } = listener
  const client = tls ? connectTls({ port, rejectUnauthorized: false }) : connect(port)
  client.on('error', () => {})
  client.write('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
  return { listener, client }
}

test('closing does not cut a finished response that waits for a slow client', async () => {
  const size = 32 * 1024 * 1024
  const ended = signal()
  const server = createServer((req, res) => {
    connections.begin(req, res)
    res.writeHead(200, { 'content-length': size })
    // Ended at once, sent much later: in between, Node takes the connection for idle.
    res.end(Buffer.alloc(size, 'x'))
    ended.resolve()
  })
  const connections = new Connections(server, { budget: new TurnBudget() })
  const port = await listenOn(server)
  const { socket } = await dial(port)
  socket.removeAllListeners('data')
  socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  await ended.promise
  NetServer.prototype.close.call(server)
  const closed = connections.close(60_000)
  let read = 0
  socket.on('data', (data) => {
    read += data.length
  })
  await once(socket, 'end')
  socket.destroy()
  await closed
  expect(read).toBeGreaterThan(size)
})

test.each([false, true])(
  'closing does not wait for a client that does not read, behind its grace (TLS: %s)',
  async (tls) => {
    const flood = Buffer.alloc(32 * 1024 * 1024)
    const pool = new FakePool({ host: '127.0.0.1', port: await listenOn(httpWorker((_req, res) => res.end(flood))) })
    const { listener, client } = await openClient(pool, tls)
    await once(client, 'readable')
    await pool.until(() => pool.granted === 1)
    await listener.close({ grace: 0 })
    expect(await pool.idle()).toBe(0)
    client.destroy()
  },
)

test.each([false, true])(
  'closing ends connections that are ending already, whenever its grace ends (TLS: %s)',
  async (tls) => {
    const pool = new FakePool({ host: '127.0.0.1', port: await listenOn(httpWorker((_req, res) => res.end('served'))) })
    const { listener, client } = await openClient(pool, tls)
    await once(client, 'data')
    await pool.until(() => pool.open === 0)
    const closed = new Promise((resolve) => {
      // Between an immediate and a timer that is due, the system is not looked at: the ends are still on their way.
      setImmediate(() => {
        resolve(listener.close({ grace: 0 }))
        const until = performance.now() + 10
        while (performance.now() < until);
      })
    })
    await closed
    client.destroy()
  },
)
