import { createServer } from 'node:http'
import { router, serveProxy } from '../proxy.ts'
import { listenOn } from '../server.ts'
import { BareProxy } from './_bare.ts'

serveProxy(async (site) => {
  const targetOf = router(site)
  const proxy = new BareProxy()
  const server = createServer((req, res) => proxy.forward(req, res, targetOf(req), req.url ?? ''))
  return { port: await listenOn(server) }
})
