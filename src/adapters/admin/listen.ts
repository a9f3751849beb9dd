import type { Server } from 'node:http'
import { type Address, ListenError, authorityHost } from '../listen-error.ts'

/** A listening admin API. */
export interface AdminListener {
  /** Such as `http://127.0.0.1:8081`, without a slash at the end. */
  readonly url: string
  readonly port: number
  readonly server: Server
  /** Stops listening and closes what is still open. */
  close(): Promise<void>
}

/** @throws {@link ListenError}, whose `code` tells a busy port from a bad address. */
export async function listen(server: Server, { hostname, port }: Address): Promise<AdminListener> {
  await new Promise<void>((resolve, reject) => {
    const fail = (cause: Error) => reject(new ListenError({ hostname, port }, cause))
    server.once('error', fail)
    server.listen(port, hostname, () => {
      server.off('error', fail)
      resolve()
    })
  })
  const address = server.address()
  const bound = typeof address === 'object' && address !== null ? address.port : port
  return {
    url: `http://${authorityHost(hostname)}:${bound}`,
    port: bound,
    server,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
