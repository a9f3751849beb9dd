import { createServer } from 'node:http'
import { H3, toNodeHandler } from 'h3'
import { serveProxy } from '../proxy.ts'
import { listenOn } from '../server.ts'
import { openGateway } from './_corral.ts'

const base = '/mounted'

serveProxy(async (site) => {
  const { pool, gateway } = await openGateway(site)
  const server = createServer(toNodeHandler(new H3().mount(base, gateway.app)))
  return { port: await listenOn(server), base, close: () => pool.close() }
})
