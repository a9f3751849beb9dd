import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { reachedBy } from '../forwarded.ts'
import type { IdCarrier } from './session-id.ts'

export interface IssueOptions {
  /** `SameSite` of the cookie. @default 'lax' */
  readonly sameSite?: 'strict' | 'lax' | 'none' | undefined
  /**
   * Whether the cookie is `Secure`. `'auto'`: when the client came by TLS, with `trustForwarded` by what the proxy says, else by
   * its own connection.
   *
   * @default 'auto'
   */
  readonly secure?: boolean | 'auto' | undefined
  /** `Path` of the cookie. @default the path that the gateway is mounted under, else '/'; '/' for `__Host-` cookies */
  readonly path?: string | undefined
  /** How long the client keeps the cookie, in milliseconds, rounded up to seconds. Absent: until the browser is closed. @default none */
  readonly maxAge?: number | undefined
}

/** A header field for the client's response. */
export type Field = readonly [name: string, value: string]

/** A random id of 128 bits: RFC 6750 §5.2 and OWASP want at least 64 that cannot be guessed. */
export function randomId(): string {
  return randomBytes(16).toString('base64url')
}

/** Makes the field that hands an id to the client of a request that lies under `base`. */
export type Issuer = (req: IncomingMessage, value: string, base: string) => Field

/** Hands ids out in the way that clients send them back (RFC 6265 §4.1). */
export function createIssuer(carrier: IdCarrier, options: IssueOptions, proxies: number): Issuer {
  if (carrier.kind === 'header') return (_req, value) => [carrier.name, value]
  const { sameSite = 'lax', secure = 'auto', path, maxAge } = options
  let attributes = `; HttpOnly; SameSite=${sameSite[0]?.toUpperCase()}${sameSite.slice(1)}`
  // RFC 6265 §4.1.1: whole seconds, of which 0 would end the cookie.
  if (maxAge !== undefined) attributes += `; Max-Age=${Math.ceil(maxAge / 1000)}`
  return (req, value, base) => {
    const isSecure = secure === 'auto' ? reachedBy(req, proxies).proto === 'https' : secure
    const scope = `; Path=${path ?? cookiePath(base)}`
    return ['Set-Cookie', `${carrier.name}=${value}${scope}${attributes}${isSecure ? '; Secure' : ''}`]
  }
}

/** The segments up to one with a semicolon, which ends an attribute (RFC 6265 §4.1.1): a client has chosen it, where a base has parameters. */
function cookiePath(base: string): string {
  const end = base.indexOf(';')
  const path = end === -1 ? base : base.slice(0, base.lastIndexOf('/', end))
  return path === '' ? '/' : path
}
