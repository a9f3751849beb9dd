import type { Server } from 'node:http'
import { importPeer, serveProxy } from '../proxy.ts'
import { listenOn } from '../server.ts'

interface Peer {
  readonly ConfigurableProxy: new (options: object) => { readonly proxyServer: Server }
}

const silent = () => {}

/** It routes by path or host, not by a header: it has one session for all. */
serveProxy(async ({ ports }) => {
  const { ConfigurableProxy } = await importPeer<Peer>('configurable-http-proxy/lib/configproxy.js')
  const log = { error: silent, warn: silent, info: silent, debug: silent }
  const { proxyServer } = new ConfigurableProxy({ log, defaultTarget: `http://127.0.0.1:${Object.values(ports)[0]}` })
  return { port: await listenOn(proxyServer) }
})
