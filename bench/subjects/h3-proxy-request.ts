import { createServer } from 'node:http'
import { H3, proxyRequest, toNodeHandler } from 'h3'
import { router, serveProxy } from '../proxy.ts'
import { listenOn } from '../server.ts'
import { nodeOf } from './_node.ts'

serveProxy(async (site) => {
  const targetOf = router(site)
  const app = new H3().all('/**', (event) => {
    const { req } = nodeOf(event)
    return proxyRequest(event, targetOf(req) + req.url)
  })
  return { port: await listenOn(createServer(toNodeHandler(app))) }
})
