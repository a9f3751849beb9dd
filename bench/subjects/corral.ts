import { serveProxy } from '../proxy.ts'
import { openGateway } from './_corral.ts'

serveProxy(async (site) => {
  const { pool, gateway } = await openGateway(site)
  const { port } = await gateway.listen({ port: 0 })
  return { port, close: () => pool.close() }
})
