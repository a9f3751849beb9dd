import { Agent, createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { importPeer, router, serveProxy } from '../proxy.ts'
import { listenOn } from '../server.ts'

interface Httpxy {
  createProxyServer(options: object): {
    web(req: IncomingMessage, res: ServerResponse, options: object): Promise<void>
    ws(req: IncomingMessage, socket: Duplex, options: object, head: Buffer): Promise<void>
    on(event: 'error', listener: () => void): void
  }
}

serveProxy(async (site) => {
  const peer = await importPeer<Httpxy>('httpxy/dist/index.mjs')
  const targetOf = router(site)
  const proxy = peer.createProxyServer({ agent: new Agent({ keepAlive: true }) })
  // A client that leaves is no error of the benchmark: a missing answer is seen at the client.
  proxy.on('error', () => {})
  const server = createServer((req, res) => {
    void proxy.web(req, res, { target: targetOf(req) })
  })
  server.on('upgrade', (req, socket, head) => {
    proxy.ws(req, socket, { target: targetOf(req), agent: false }, head).catch(() => socket.destroy())
  })
  return { port: await listenOn(server) }
})
