import { once } from 'node:events'
import { createServer } from 'node:http'
import { H3, toNodeHandler } from 'h3'
import { router, serveProxy } from '../proxy.ts'
import { listenOn } from '../server.ts'
import { BareProxy } from './_bare.ts'
import { nodeOf } from './_node.ts'

const base = '/mounted'
/** What h3 takes for "the response has been sent". */
const handled = Symbol.for('h3.handled')

serveProxy(async (site) => {
  const targetOf = router(site)
  const proxy = new BareProxy()
  const app = new H3().all(`${base}/**`, async (event) => {
    const { req, res } = nodeOf(event)
    const closed = once(res, 'close')
    proxy.forward(req, res, targetOf(req), (req.url ?? '').slice(base.length))
    await closed
    return handled
  })
  return { port: await listenOn(createServer(toNodeHandler(app))), base }
})
