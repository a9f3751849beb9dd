import { Agent, createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { importPeer, router, serveProxy } from '../proxy.ts'
import { listenOn } from '../server.ts'

interface HttpProxy {
  createProxyServer(options: object): {
    web(req: IncomingMessage, res: ServerResponse, options: object): void
    ws(req: IncomingMessage, socket: Duplex, head: Buffer, options: object): void
    on(event: 'error', listener: () => void): void
  }
}

serveProxy(async (site) => {
  const { default: peer } = await importPeer<{ default: HttpProxy }>('http-proxy/index.js')
  const targetOf = router(site)
  const proxy = peer.createProxyServer({ agent: new Agent({ keepAlive: true }) })
  // A client that leaves is no error of the benchmark: a missing answer is seen at the client.
  proxy.on('error', () => {})
  const server = createServer((req, res) => proxy.web(req, res, { target: targetOf(req) }))
  server.on('upgrade', (req, socket, head) => proxy.ws(req, socket, head, { target: targetOf(req), agent: false }))
  return { port: await listenOn(server) }
})
