import { isIPv6 } from 'node:net'

/** Where it was to be listened. */
export interface Address {
  readonly hostname: string
  readonly port: number
}

/** Somewhere could not be listened on. Carries the code of the cause, such as `EADDRINUSE`. */
export class ListenError extends Error {
  override readonly name = 'ListenError'
  readonly code: string
  readonly address: Address

  /** `option` is what said where, if there is more than one place that could have. */
  constructor(address: Address, cause: unknown, option?: string) {
    const code = codeOf(cause)
    const where = `${authorityHost(address.hostname)}:${address.port}`
    super(`Cannot listen on ${where}${option === undefined ? '' : ` (${option})`}: ${reason(code, cause)}`, { cause })
    this.code = code
    this.address = address
  }

  /** Whatever the port, there can be no listening. */
  get isOfHost(): boolean {
    return faultsOfHost.has(this.code)
  }
}

/** Of a port that the Fetch standard blocks: no browser would connect to it, on any machine. */
export const UNSAFE_PORT = 'ERR_UNSAFE_PORT'

/** As it is written in a URL (RFC 3986 §3.2.2). */
export function authorityHost(hostname: string): string {
  return isIPv6(hostname) ? `[${hostname}]` : hostname
}

/** `EINVAL` is of an address that only one of the interfaces has. */
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
    default:
      return cause instanceof Error ? cause.message : String(cause)
  }
}

function codeOf(cause: unknown): string {
  const { code } = (cause ?? {}) as { code?: unknown }
  return typeof code === 'string' ? code : 'LISTEN_FAILED'
}
