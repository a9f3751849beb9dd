import { once } from 'node:events'
import { createServer } from 'node:http'
import { Server as NetServer } from 'node:net'
import { expect, test } from 'vitest'
import { Connections } from '../../../src/adapters/h3/connections.ts'
import { dial, listenOn, signal } from './_scene.ts'

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
  const connections = new Connections(server, 0, () => {})
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
