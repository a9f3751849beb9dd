import { createServer } from 'node:http'
import { createWebSocketProxy } from 'crossws'
import createAdapter from 'crossws/adapters/node'
import { WebSocket } from 'ws'
import { serveProxy } from '../proxy.ts'
import { listenOn } from '../server.ts'

/** The target of its proxy is fixed: it has one session for all. */
serveProxy(async ({ ports }) => {
  const origin = `ws://127.0.0.1:${Object.values(ports)[0]}`
  const target = (peer: { request: Request }) => origin + new URL(peer.request.url).pathname
  const adapter = createAdapter({
    hooks: createWebSocketProxy({ target, WebSocket: WebSocket as unknown as typeof globalThis.WebSocket }),
  })
  const server = createServer()
  server.on('upgrade', (req, socket, head) => void adapter.handleUpgrade(req, socket, head))
  return { port: await listenOn(server) }
})
