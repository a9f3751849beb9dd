import type { IncomingMessage } from 'node:http'
import { METHODS } from 'node:http'
import type { Trusted } from './forwarded.ts'
import { addTrusted, isForwarded, peerOf, pushForwarded } from './forwarded.ts'
import { http2Request } from './http2.ts'
import { Refusal } from './problem.ts'
import type { TellingFields } from './spelling.ts'
import { isRespelled, withHyphens } from './spelling.ts'

/** How request headers are rewritten. */
export interface HeaderPolicy {
  readonly host: 'rewrite' | 'keep'
  /** How many proxies in front are trusted to tell of the client. */
  readonly proxies: number
  readonly via: string | false
  readonly telling: TellingFields
}

/** Fields, by their names in lower case, to send in place of the client's; `undefined` only drops those. */
export type Replacements = Readonly<Record<string, string | undefined>>

/** What the headers of one forwarded request depend on besides its own. */
export interface HeaderContext {
  /** Host and port of an absolute-form target. */
  readonly authority: string | undefined
  /** Path that was cut off the target. */
  readonly prefix: string
}

const keep = 0
const drop = 1
const host = 2
const connection = 3
const te = 4
const forwarded = 5
const coding = 6
const contentLength = 7
const credentials = 8

/**
 * RFC 9110 §7.6.1: these concern one connection only and end with it, besides every field that `Connection` lists.
 * `Proxy-Authorization` is for a proxy, not for what lies behind it (RFC 9110 §11.7.2). `Expect` is answered by the
 * gateway (RFC 9110 §10.1.1). Trailers of requests are discarded, which §6.5.1 allows, and so is their announcement.
 */
const requestFields: ReadonlyMap<string, number> = new Map([
  ['connection', connection],
  ['keep-alive', drop],
  ['proxy-connection', drop],
  ['proxy-authorization', drop],
  ['transfer-encoding', coding],
  ['content-length', contentLength],
  ['upgrade', drop],
  ['trailer', drop],
  ['expect', drop],
  ['http2-settings', drop],
  ['te', te],
  ['host', host],
  ['authorization', credentials],
  ['forwarded', forwarded],
  ['x-real-ip', forwarded],
])

/**
 * The header fields to send to the worker, names and values in turn: as the client sent them, in its order and
 * spelling, without those of the client's connection, and with `Host`, `X-Forwarded-*` and `Forwarded` by the policy. To be
 * completed by {@link nameWorker} once there is a worker: what is wrong with a request shows before one is spent on it.
 *
 * @param replaced what to send in place of the client's fields.
 * @throws `REQUEST_INVALID` when there is more than one `Host` or one that names no host (RFC 9112 §3.2), more than one
 * `Authorization`, a length beyond counting, or a transfer coding in HTTP/1.0 (§6.1); `HEADERS_TOO_LARGE`,
 * `TRANSFER_CODING_UNSUPPORTED`.
 */
export function requestHeaders(
  req: IncomingMessage,
  policy: HeaderPolicy,
  context: HeaderContext,
  replaced?: Replacements,
): string[] {
  const raw = req.rawHeaders
  if (raw.length >= maxCollected) throw new Refusal('HEADERS_TOO_LARGE')
  const headers = ['Host', '']
  const listed = connectionOptions(raw)
  const trusted: Trusted | undefined = policy.proxies > 0 ? { proxies: policy.proxies } : undefined
  // RFC 9113 §8.2.3: HTTP/2 may split a cookie field, and HTTP/1 may not see that.
  const cookies: string[] | undefined = req.httpVersionMajor === 2 ? [] : undefined
  let clientHost: string | undefined
  let authorization: string | undefined
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as string
    const value = raw[i + 1] as string
    const field = fieldOf(name)
    if (field === credentials) {
      // RFC 9110 §5.3: it is no list. Node shows the first to an authoriser, and a worker may go by the last.
      if (authorization !== undefined) throw new Refusal('REQUEST_INVALID')
      authorization = value
    }
    if (replaced !== undefined && Object.hasOwn(replaced, name.toLowerCase())) continue
    if (field === keep || field === credentials) {
      if (cookies !== undefined && name === 'cookie') cookies.push(value)
      else if (!isLeftOut(name, listed, policy.telling)) headers.push(name, value)
    } else if (field === host) {
      if (clientHost !== undefined) throw new Refusal('REQUEST_INVALID')
      clientHost = value
    } else if (field === coding) {
      // RFC 9112 §6.1. The chunks are undone here; what another coding has made of the body nobody behind could undo.
      // Newer versions of Node refuse it as malformed before it gets here.
      if (value === '') throw new Refusal('REQUEST_MALFORMED')
      if (value.toLowerCase() !== 'chunked') throw new Refusal('TRANSFER_CODING_UNSUPPORTED')
      if (req.httpVersionMinor === 0) throw new Refusal('REQUEST_INVALID')
    } else if (field === contentLength) {
      // What is beyond counting would be forwarded as another number.
      if (!Number.isSafeInteger(Number(value))) throw new Refusal('REQUEST_INVALID')
      headers.push(name, value)
    } else if (field === te) {
      // Trailers of responses are passed on, so that a worker may send them to whoever asked for them.
      if (/(?:^|,)\s*trailers\s*(?:[,;]|$)/i.test(value)) headers.push('TE', 'trailers')
    } else if (field === forwarded) {
      if (trusted !== undefined) addTrusted(trusted, headers, name, value)
      // Who may tell by it whose session it is has told the gateway by it: the worker may go by it, too.
      else if (isPassedOn(name.toLowerCase(), policy.telling)) headers.push(name, value)
    }
  }
  for (const name in replaced) {
    const value = replaced[name]
    if (value !== undefined) headers.push(name, value)
  }
  if (cookies?.length) headers.push('Cookie', cookies.join('; '))
  // RFC 9112 §3.2
  if (clientHost === undefined && req.httpVersionMajor === 1 && req.httpVersionMinor === 1) {
    throw new Refusal('REQUEST_INVALID')
  }
  clientHost = context.authority ?? clientHost
  if (policy.host === 'keep' && clientHost) headers[1] = clientHost
  // An empty one is for targets without an authority (RFC 9110 §7.2).
  if (clientHost === '') clientHost = undefined
  pushForwarded(headers, peerOf(req.socket, clientHost), context.prefix, trusted)
  // RFC 9110 §7.6.3
  if (policy.via !== false) headers.push('Via', `${req.httpVersion} ${policy.via}`)
  return headers
}

/** Whether the client expects something beside `100-continue`, which is all there is (RFC 9110 §10.1.1). */
export function expectsUnknown({ headers: { expect } }: IncomingMessage): boolean {
  return expect !== undefined && expect.split(',').some((part) => part.trim().toLowerCase() !== '100-continue')
}

/**
 * Entries beyond which Node no longer collects header fields: without a word it leaves the rest out, and what they say of the
 * body, of the session or of the client.
 */
export const maxCollected = 2000

/**
 * llhttp takes 0.9, to which a missing version amounts, and 2.0 for versions of the same syntax. It reads RTSP, too, and shows
 * it as HTTP of the same version: only methods that HTTP does not have tell one from the other.
 *
 * @throws `HTTP_VERSION_UNSUPPORTED`
 */
export function assertVersion(req: IncomingMessage): void {
  if (req.httpVersionMajor === 1 && httpMethods.has(req.method)) return
  if (http2Request(req) === undefined) throw new Refusal('HTTP_VERSION_UNSUPPORTED')
}

const httpMethods: ReadonlySet<string | undefined> = new Set(METHODS)

/** Fills in the `Host` that is not the client's. */
export function nameWorker(headers: string[], workerHost: string): void {
  if (headers[1] === '') headers[1] = workerHost
}

/** The head of a worker's response as it goes to the client. */
export interface ResponseHead {
  readonly headers: string[]
  /** `Content-Length`; -1 when there is none. */
  readonly length: number
  /** Whether the end of the connection is the only end of the body (RFC 9112 §6.3, rule 8). */
  readonly closeDelimited: boolean
}

const responseFields: ReadonlyMap<string, number> = new Map([
  ['connection', connection],
  ['keep-alive', drop],
  ['proxy-connection', drop],
  ['proxy-authenticate', drop],
  ['transfer-encoding', te],
  ['upgrade', drop],
  ['te', drop],
])

/**
 * The header fields to send to the client, names and values in turn, as the worker sent them, without those of the
 * worker's connection.
 *
 * @param raw names and values in turn; bytes are latin1.
 * @param chunked whether the client may get a chunked body, the only one that trailers fit in.
 * @param location rewrites a `Location` that names the worker.
 * @throws `UPSTREAM_FAILED` on a transfer coding besides `chunked`, which nobody asked for and nobody could undo.
 */
export function responseHead(
  raw: readonly (Buffer | string)[],
  status: number,
  chunked: boolean,
  location: (value: string) => string,
): ResponseHead {
  const headers: string[] = []
  const listed = connectionOptions(raw)
  let length = -1
  let closeDelimited = true
  let codings = 0
  let trailer: string | undefined
  for (let i = 0; i < raw.length; i += 2) {
    const name = latin1(raw[i] as Buffer | string)
    const value = valueOf(raw[i + 1] as Buffer | string)
    const lower = name.toLowerCase()
    const field = responseFields.get(lower)
    if (field === te) {
      if (++codings > 1 || !isChunked(latin1(raw[i + 1] as Buffer | string))) throw unknownCoding()
      closeDelimited = false
    } else if (field !== undefined || listed?.has(lower)) {
      continue
    } else if (lower === 'content-length') {
      length = Number(value)
      closeDelimited = false
      // RFC 9110 §8.6: never with 1xx and 204.
      if (status >= 200 && status !== 204) headers.push(name, value)
    } else if (lower === 'trailer') {
      trailer = trailer === undefined ? value : `${trailer}, ${value}`
    } else if (lower === 'location' || lower === 'content-location') {
      headers.push(name, location(value))
    } else {
      headers.push(name, value)
    }
  }
  if (trailer !== undefined && chunked && length === -1) headers.push('Trailer', trailer)
  return { headers, length, closeDelimited }
}

/** Fields that must not appear in trailers: framing, routing and what belongs to a connection (RFC 9110 §6.5.1). */
const notInTrailers = new Set([
  ...requestFields.keys(),
  'content-encoding',
  'content-type',
  'content-range',
  'location',
  'content-location',
  'set-cookie',
])

/** The trailers of a worker's response as name and value pairs, without `leftOut`, in lower case. */
export function responseTrailers(raw: readonly (Buffer | string)[], leftOut: string | undefined): [string, string][] {
  const trailers: [string, string][] = []
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = latin1(raw[i] as Buffer | string)
    const lower = name.toLowerCase()
    if (lower !== leftOut && !notInTrailers.has(lower)) trailers.push([name, valueOf(raw[i + 1] as Buffer | string)])
  }
  return trailers
}

export function latin1(bytes: Buffer | string): string {
  return typeof bytes === 'string' ? bytes : bytes.toString('latin1')
}

/** The value of a field, without the white space behind it, which is none of it (RFC 9110 §5.5). Parsers leave out what is before it. */
function valueOf(bytes: Buffer | string): string {
  const text = latin1(bytes)
  let end = text.length
  while (end > 0 && (text.charCodeAt(end - 1) === 0x20 || text.charCodeAt(end - 1) === 0x09)) end--
  return end === text.length ? text : text.slice(0, end)
}

/** As llhttp sees it, which has undone the chunks or has not: before a tab it does not see them. */
function isChunked(value: string): boolean {
  return /^chunked *$/i.test(value)
}

/**
 * Node leaves out the tab that llhttp stumbles over.
 *
 * @param heads as they came.
 * @throws `UPSTREAM_FAILED` for what {@link responseHead} would refuse if it saw that.
 */
export function assertCoding(heads: readonly Buffer[]): void {
  const parts = latin1(Buffer.concat(heads)).split('\r\n\r\n')
  const head = parts.find((part) => !/^HTTP\/1\.\d 1/.test(part)) ?? ''
  if (/^transfer-encoding:.*\t *\r?$/im.test(head)) throw unknownCoding()
}

function unknownCoding(): Refusal {
  return new Refusal('UPSTREAM_FAILED', {
    cause: new Error('The worker answered with a transfer coding besides "chunked"'),
  })
}

/** Only names that can be special are lowercased: most begin with another letter. */
function fieldOf(name: string): number {
  if (isRespelled(name)) return aliasOf(name)
  switch (name.charCodeAt(0) | 0x20) {
    case 0x3a: // The pseudo-header fields of HTTP/2 (RFC 9113 §8.3).
      return drop
    case 0x61: // a, which many fields begin with that are not special
      return name.length === 13 ? (requestFields.get(name.toLowerCase()) ?? keep) : keep
    case 0x63: // c
    case 0x65: // e
    case 0x66: // f
    case 0x68: // h
    case 0x6b: // k
    case 0x70: // p
    case 0x74: // t
    case 0x75: // u
      return requestFields.get(name.toLowerCase()) ?? keep
    case 0x78: {
      const lower = name.toLowerCase()
      return lower.startsWith('x-forwarded-') ? forwarded : (requestFields.get(lower) ?? keep)
    }
    default:
      return keep
  }
}

/** Of fields that the gateway decides about there is no second spelling. */
function aliasOf(name: string): number {
  const meant = withHyphens(name.toLowerCase())
  return requestFields.has(meant) || meant.startsWith('x-forwarded-') ? drop : keep
}

/**
 * What `Connection` lists goes, but not what tells whose session it is: the worker may go by it, too. Of that the second
 * spelling goes.
 */
function isLeftOut(name: string, listed: ReadonlySet<string> | undefined, telling: TellingFields): boolean {
  if (listed === undefined && !telling.mayMean(name)) return false
  const lower = name.toLowerCase()
  if (telling.has(lower)) return false
  return listed?.has(lower) === true || telling.isMeantBy(lower)
}

function isPassedOn(lower: string, telling: TellingFields): boolean {
  return telling.has(lower) && !isForwarded(lower)
}

/** The fields that `Connection` lists, which may be thousands; `undefined` when it lists none that could be a field. */
function connectionOptions(raw: readonly (Buffer | string)[]): Set<string> | undefined {
  let listed: Set<string> | undefined
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as Buffer | string
    if (name.length === 10 && latin1(name).toLowerCase() === 'connection') {
      listed = addOptions(listed, latin1(raw[i + 1] as Buffer | string))
    }
  }
  return listed
}

/**
 * A `Connection` that lists an end-to-end field asks the proxy to drop it. For the fields below that would change what the
 * message means, so that such a request is not honoured: RFC 9110 §7.6.1 forbids to list them.
 */
const neverDropped = new Set([
  'content-length',
  'content-type',
  'content-encoding',
  'content-range',
  'host',
  'cache-control',
  'authorization',
  'cookie',
  'range',
  'if-match',
  'if-none-match',
  'if-modified-since',
  'if-unmodified-since',
  'if-range',
  'sec-websocket-key',
  'sec-websocket-version',
  'sec-websocket-protocol',
  'sec-websocket-extensions',
])

function addOptions(listed: Set<string> | undefined, value: string): Set<string> | undefined {
  const lower = value.toLowerCase()
  if (lower === 'keep-alive' || lower === 'close' || lower === 'upgrade') return listed
  for (const option of lower.split(',')) {
    const name = option.trim()
    if (name !== '' && !neverDropped.has(name)) (listed ??= new Set()).add(name)
  }
  return listed
}
