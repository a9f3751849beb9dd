import type { IncomingMessage } from 'node:http'
import { InvalidOptionError } from '../../../index.ts'
import { decode, pathEnd } from '../target.ts'

/**
 * Finds the session id of a request. Returns the id; a {@link SessionIdMatch} when the worker shall see another target;
 * or nothing when this source names no session, so that the next one is asked. May be asynchronous.
 *
 * An id that does not fit `idPattern` is answered with 400. A thrown error with a `status` from 400 to 499 (such as h3's
 * `HTTPError`) is answered with that status, so this is a place to authenticate; any other error with 500.
 *
 * @param req the raw request. Its body must be left alone.
 * @param target the raw request target, path and query, without the base that the gateway is mounted under.
 */
export interface SessionIdSource {
  (req: IncomingMessage, target: string): SessionIdResult | Promise<SessionIdResult>
  /** How a client can be told an id in a way that this source finds it again. @default none */
  readonly carrier?: IdCarrier | undefined
}

export interface IdCarrier {
  readonly kind: 'cookie' | 'header'
  readonly name: string
}

export type SessionIdResult = SessionIdMatch | string | undefined | null

export interface SessionIdMatch {
  readonly id: string
  /** The target that the worker sees, beginning with `/`. @default the request's own */
  readonly target?: string | undefined
  /** What was cut off the front of the path, sent on as `X-Forwarded-Prefix`. @default none */
  readonly prefix?: string | undefined
}

/** Letters, digits and `. _ ~ : @ + = -`, 1 to 128 of them: safe in logs, in headers and in paths, where `.` and `..` are no names. */
export const defaultIdPattern = /^(?!\.{1,2}$)[A-Za-z0-9._~:@+=-]{1,128}$/

/** Present, but of no use: fits no sensible pattern, and stops the search. */
const malformed = ''

/**
 * The id is the value of the header `name`. Sent twice with different values it is malformed.
 *
 * @throws `INVALID_OPTION`, also for headers that HTTP has a meaning for which no id can have, such as `Host`.
 */
export function fromHeader(name: string): SessionIdSource {
  const lower = idHeader('fromHeader(name)', name).toLowerCase()
  const read = (req: IncomingMessage) => {
    const raw = req.rawHeaders
    let found: string | undefined
    for (let i = 0; i < raw.length; i += 2) {
      const field = raw[i] as string
      if (field.length !== lower.length || field.toLowerCase() !== lower) continue
      if (found !== undefined && found !== raw[i + 1]) return malformed
      found = raw[i + 1]
    }
    return found
  }
  return Object.assign(read, { carrier: { kind: 'header', name } as const })
}

/**
 * The id is the value of the cookie `name`, taken literally (no percent-decoding). Sent twice with different values it is
 * malformed.
 */
export function fromCookie(name: string): SessionIdSource {
  token('fromCookie(name)', name)
  const read = (req: IncomingMessage) => {
    const { cookie } = req.headers
    if (cookie === undefined) return undefined
    let found: string | undefined
    for (const pair of cookie.split(';')) {
      const equals = pair.indexOf('=')
      if (equals === -1 || trimmed(pair.slice(0, equals)) !== name) continue
      const value = unquote(trimmed(pair.slice(equals + 1)))
      if (found !== undefined && found !== value) return malformed
      found = value
    }
    return found
  }
  return Object.assign(read, { carrier: { kind: 'cookie', name } as const })
}

/**
 * The id is the value of the query parameter `name`, percent-decoded strictly (`+` is a plus). Sent twice with different
 * values it is malformed. The worker sees the parameter too.
 */
export function fromQuery(name: string): SessionIdSource {
  token('fromQuery(name)', name)
  return (_req, target) => {
    const start = target.indexOf('?')
    if (start === -1) return undefined
    const hash = target.indexOf('#', start)
    let found: string | undefined
    for (const pair of target.slice(start + 1, hash === -1 ? undefined : hash).split('&')) {
      const equals = pair.indexOf('=')
      if (decode(equals === -1 ? pair : pair.slice(0, equals)) !== name) continue
      const value = (equals === -1 ? malformed : decode(pair.slice(equals + 1))) ?? malformed
      if (found !== undefined && found !== value) return malformed
      found = value
    }
    return found
  }
}

/**
 * The id is the path segment after `prefix`, percent-decoded strictly. The worker sees what follows it, query included,
 * unchanged: of `/s/red/a%2Fb?c` it sees `/a%2Fb?c`, of `/s/red` it sees `/`.
 *
 * @param prefix path that the ids lie under; `''` for ids in the first segment. @default '/s'
 */
export function fromPath(prefix = '/s'): SessionIdSource {
  if (!isPlainPath(prefix)) {
    throw new InvalidOptionError('fromPath(prefix)', 'a plain path such as "/s"', JSON.stringify(prefix))
  }
  const start = prefix.endsWith('/') ? prefix : `${prefix}/`
  return (_req, target) => {
    if (!target.startsWith(start)) return undefined
    const end = pathEnd(target)
    const slash = target.indexOf('/', start.length)
    const idEnd = slash === -1 || slash > end ? end : slash
    const raw = target.slice(start.length, idEnd)
    // `/s/` alone names no session.
    if (raw === '' && idEnd === end) return undefined
    const rest = target.slice(idEnd)
    return {
      id: decode(raw) ?? malformed,
      target: rest.startsWith('/') ? rest : `/${rest}`,
      prefix: target.slice(0, idEnd),
    }
  }
}

/** A path that means the same to everybody: without escapes, and without segments that some resolve (RFC 3986 §6.2.2.3). */
export function isPlainPath(path: unknown): boolean {
  return typeof path === 'string' && /^(?:\/(?!\.{1,2}(?:\/|$))[\w.~-]+)*\/?$/.test(path)
}

/**
 * Without the white space of RFC 6265 §5.2. `trim` takes more for that: of what browsers keep as a part of the name, so that
 * `\u00a0__Host-sid`, which any host of the domain may set, would pass for `__Host-sid`.
 */
function trimmed(text: string): string {
  let start = 0
  let end = text.length
  while (start < end && isBlank(text.charCodeAt(start))) start++
  while (end > start && isBlank(text.charCodeAt(end - 1))) end--
  return text.slice(start, end)
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09
}

/** A `Cookie` without the pairs of one name; `undefined`: nothing is left. */
export function withoutCookie(name: string, cookie = ''): string | undefined {
  const isKept = (pair: string) => trimmed(pair.split('=', 1)[0] ?? '') !== name
  return trimmed(cookie.split(';').filter(isKept).join(';')) || undefined
}

/** A cookie value may be wrapped in double quotes, which are not part of it (RFC 6265 §4.1.1). */
function unquote(value: string): string {
  return value.length >= 2 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value
}

function isFieldName(name: unknown): name is string {
  return typeof name === 'string' && /^[\w!#$%&'*+.^`|~-]+$/.test(name)
}

/**
 * Fields that HTTP has a meaning for (RFC 9110 §18.4, RFC 9111 §5, RFC 9112, RFC 6454, RFC 6455 §11.3), and those that hold cookies,
 * which are `fromCookie`'s: each may be the same in two sessions, or another one in the next request of one, and in a response an id
 * in its place would be taken for what it says.
 */
const unfit = new Set(
  `accept accept-charset accept-encoding accept-language accept-ranges age allow authentication-info authorization cache-control
  connection content-encoding content-language content-length content-location content-range content-type cookie date etag
  expect expires from host http2-settings if-match if-modified-since if-none-match if-range if-unmodified-since keep-alive
  last-modified location max-forwards origin pragma proxy-authenticate proxy-authentication-info proxy-authorization
  proxy-connection range referer retry-after sec-websocket-accept sec-websocket-extensions sec-websocket-key
  sec-websocket-protocol sec-websocket-version server set-cookie te trailer transfer-encoding upgrade user-agent vary via
  warning www-authenticate`.split(/\s+/),
)

/** A header that can name a session or a principal. @throws `INVALID_OPTION` */
export function idHeader(option: string, name: unknown): string {
  if (!isFieldName(name))
    throw new InvalidOptionError(option, 'the name of a header', JSON.stringify(name) ?? typeof name)
  if (!unfit.has(name.toLowerCase())) return name
  throw new InvalidOptionError(option, 'a header that HTTP itself has no use for', JSON.stringify(name))
}

/** Names of headers and cookies are tokens (RFC 9110 §5.6.2); for query parameters that is no loss. */
function token(option: string, name: unknown): string {
  if (isFieldName(name)) return name
  throw new InvalidOptionError(option, 'a name of letters, digits and punctuation', JSON.stringify(name) ?? typeof name)
}
