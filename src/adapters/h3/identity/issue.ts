import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { outermost } from '../forwarded.ts'
import type { IdCarrier } from './session-id.ts'

export interface IssueOptions {
  /** `SameSite` of the cookie. @default 'lax' */
  readonly sameSite?: 'strict' | 'lax' | 'none' | undefined
  /**
   * Whether the cookie is `Secure`. `'auto'`: when the client came by TLS, by its own connection or, with `trustForwarded`,
   * by what the proxy says.
   *
   * @default 'auto'
   */
  readonly secure?: boolean | 'auto' | undefined
  /** `Path` of the cookie. @default the base of the gateway, else '/' */
  readonly path?: string | undefined
  /** How long the client keeps the cookie, in milliseconds. Absent: until the browser is closed. @default none */
  readonly maxAge?: number | undefined
}

/** A header field for the client's response. */
export type Field = readonly [name: string, value: string]

/** A random id of 128 bits: RFC 6750 §5.2 and OWASP want at least 64 that cannot be guessed. */
export function randomId(): string {
  return randomBytes(16).toString('base64url')
}

/** Makes the field that hands an id to its client, in the way that the client sends it back (RFC 6265 §4.1). */
export function createIssuer(carrier: IdCarrier, options: IssueOptions, base: string, proxies: number) {
  if (carrier.kind === 'header') return (_req: IncomingMessage, value: string): Field => [carrier.name, value]
  const { sameSite = 'lax', secure = 'auto', path = base === '' ? '/' : base, maxAge } = options
  let attributes = `; Path=${path}; HttpOnly; SameSite=${sameSite[0]?.toUpperCase()}${sameSite.slice(1)}`
  if (maxAge !== undefined) attributes += `; Max-Age=${Math.floor(maxAge / 1000)}`
  return (req: IncomingMessage, value: string): Field => {
    const isSecure = secure === 'auto' ? cameByTls(req, proxies) : secure
    return ['Set-Cookie', `${carrier.name}=${value}${attributes}${isSecure ? '; Secure' : ''}`]
  }
}

function cameByTls(req: IncomingMessage, proxies: number): boolean {
  if ((req.socket as { encrypted?: boolean }).encrypted === true) return true
  const listed = req.headers['x-forwarded-proto']
  // Some proxies name the scheme of a WebSocket.
  return proxies > 0 && typeof listed === 'string' && /^(?:https|wss)$/i.test(outermost(listed, proxies))
}
