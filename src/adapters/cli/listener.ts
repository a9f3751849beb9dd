import type { Server } from 'node:http'
import { isIPv6 } from 'node:net'

export interface Listener {
  /** Without a slash at the end. */
  readonly url: string
  readonly port: number
  /** Stops listening and closes what is still open. */
  close(): Promise<void>
}

/** Rejects with Node's own error, whose `code` tells a busy port from a bad address. */
export async function listen(server: Server, { host, port }: { host: string; port: number }): Promise<Listener> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
  const address = server.address()
  const bound = typeof address === 'object' && address !== null ? address.port : port
  return {
    url: `http://${isIPv6(host) ? `[${host}]` : host}:${bound}`,
    port: bound,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** Somewhere could not be listened on. Carries the code of the cause, such as `EADDRINUSE`. */
export class ListenError extends Error {
  readonly code: string

  constructor(flag: string, { host, port }: { host: string; port: number }, cause: unknown) {
    const code = codeOf(cause)
    super(`Cannot listen on ${isIPv6(host) ? `[${host}]` : host}:${port} (--${flag}): ${reason(code, cause)}`, {
      cause,
    })
    this.code = code
  }
}

function reason(code: string, cause: unknown): string {
  switch (code) {
    case 'EADDRINUSE':
      return 'the port is in use'
    case 'EACCES':
      return 'permission denied'
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return 'this machine has no such address'
    default:
      return cause instanceof Error ? cause.message : String(cause)
  }
}

function codeOf(cause: unknown): string {
  if (typeof cause === 'object' && cause !== null && 'code' in cause) return String(cause.code)
  return 'LISTEN_FAILED'
}
