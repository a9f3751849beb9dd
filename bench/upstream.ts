/** What stands behind every proxy: one process that listens on as many ports as there are sessions. */
import type { IncomingMessage, Server } from 'node:http'
import { createServer } from 'node:http'
import { WebSocketServer } from 'ws'
import { serve } from './child.ts'
import { answerBody, listenOn } from './server.ts'
import { streamMessages } from './stream.ts'

const servers: Server[] = []

export const answers = {
  /** @returns the ports. */
  listen: (count: number): Promise<number[]> => Promise.all(Array.from({ length: count }, () => listen())),
}

if (process.send) serve(answers)

async function listen(): Promise<number> {
  const server = createServer(answerBody)
  // A connection that is idle between two rounds is not closed: a proxy that does not notice would be to blame.
  server.keepAliveTimeout = 600_000
  const sockets = new WebSocketServer({ server, perMessageDeflate: false })
  sockets.on('connection', (socket, req: IncomingMessage) => {
    socket.on('error', () => {})
    if (req.url === '/stream') streamMessages(socket)
    else socket.on('message', (data: Buffer, binary) => socket.send(data, { binary }))
  })
  servers.push(server)
  return listenOn(server)
}
