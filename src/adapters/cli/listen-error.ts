import { isIPv6 } from 'node:net'
import type { FlagName } from './flags.ts'

/** The flags that said where to listen; one of them may have said both. */
export interface ListenFlags {
  readonly host: FlagName
  readonly port: FlagName
}

/** Somewhere could not be listened on. Carries the code of the cause, such as `EADDRINUSE`. */
export class ListenError extends Error {
  readonly code: string

  constructor(flags: ListenFlags, { host, port }: { host: string; port: number }, cause: unknown) {
    const code = codeOf(cause)
    const where = `${isIPv6(host) ? `[${host}]` : host}:${port}`
    const flag = faultsOfHost.has(code) ? flags.host : flags.port
    super(`Cannot listen on ${where} (--${flag}): ${reason(code, cause)}`, { cause })
    this.code = code
  }
}

/** Whatever the port, there can be no listening: `EINVAL` is of an address that only one of the interfaces has. */
const faultsOfHost: ReadonlySet<string> = new Set(['ENOTFOUND', 'EAI_AGAIN', 'EADDRNOTAVAIL', 'EAFNOSUPPORT', 'EINVAL'])

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
      return 'browsers refuse this port, and so does the gateway; take another one'
    default:
      return cause instanceof Error ? cause.message : String(cause)
  }
}

function codeOf(cause: unknown): string {
  const { code } = (cause ?? {}) as { code?: unknown }
  return typeof code === 'string' ? code : 'LISTEN_FAILED'
}
