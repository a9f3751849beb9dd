import type { Server } from 'node:http'
import { isIPv6 } from 'node:net'

/** A listening admin API. */
export interface AdminListener {
  /** Such as `http://127.0.0.1:8081`, without a slash at the end. */
  readonly url: string
  readonly port: number
  readonly server: Server
  /** Stops listening and closes what is still open. */
  close(): Promise<void>
}

/** Rejects with Node's own error, whose `code` tells a busy port from a bad address. */
export async function listen(
  server: Server,
  { hostname, port }: { hostname: string; port: number },
): Promise<AdminListener> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, hostname, () => {
      server.off('error', reject)
      resolve()
    })
  })
  const address = server.address()
  const bound = typeof address === 'object' && address !== null ? address.port : port
  return {
    url: `http://${isIPv6(hostname) ? `[${hostname}]` : hostname}:${bound}`,
    port: bound,
    server,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
