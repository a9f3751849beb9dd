import { isIPv6 } from 'node:net'

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
      return 'this machine has no such address'
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return 'the name cannot be resolved'
    case 'ERR_UNSAFE_PORT':
      return 'browsers refuse this port'
    default:
      return cause instanceof Error ? cause.message : String(cause)
  }
}

function codeOf(cause: unknown): string {
  if (typeof cause === 'object' && cause !== null && 'code' in cause) return String(cause.code)
  return 'LISTEN_FAILED'
}
