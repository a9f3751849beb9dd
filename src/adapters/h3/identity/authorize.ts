import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { BlockList, isIPv4, isIPv6 } from 'node:net'
import { InvalidOptionError } from '../../../index.ts'
import { check, isBoolean, object } from '../../check.ts'
import { plainAddress } from '../address.ts'
import { idHeader } from './session-id.ts'

/**
 * Decides on whose behalf a request comes. Returns the principal, such as a user's name; or nothing, which is answered with
 * 401. A thrown error with a `status` from 400 to 499 (such as h3's `HTTPError`) is answered with that status; any other
 * error with 500. May be asynchronous.
 *
 * Every principal has sessions of its own: the same id from two principals is two sessions.
 *
 * @param req the raw request. Its body must be left alone.
 * @param target the raw request target, path and query, without the base that the gateway is mounted under.
 */
export interface Authorizer {
  (req: IncomingMessage, target: string): Principal | Promise<Principal>
  /** Request header fields, in lower case, that are meant for the gateway alone: workers do not get them. @default none */
  readonly consumes?: readonly string[] | undefined
  /**
   * Request header fields, in lower case, that tell the principal and reach workers: a client can neither have them left out
   * by `Connection` nor add a second spelling (`x_user`, `x.user`). @default none
   */
  readonly reads?: readonly string[] | undefined
  /** What `WWW-Authenticate` says with 401 (RFC 9110 §11.6.1). @default 'Bearer' */
  readonly challenge?: string | undefined
}

export type Principal = string | undefined | null

/** Longest name of a principal: it becomes part of session ids, in logs and in lists. */
export const maxPrincipal = 256

export interface BearerOptions {
  /** Whether workers get the token too. @default false */
  readonly forward?: boolean | undefined
}

/**
 * Authorises by `Authorization: Bearer …` (RFC 6750 §2.1), in one field only.
 *
 * @param tokens what each token is worth: an object or a map from token to principal, or a function that looks one up.
 * Tokens of objects and maps have at least 16 letters, digits and `-._~+/`, and maybe `=` at the end: clients can send no others.
 * They are kept and compared as hashes, so that the time tells nothing of them.
 * @throws `INVALID_OPTION`
 */
export function bearerToken(
  tokens: Readonly<Record<string, string>> | ReadonlyMap<string, string> | TokenLookup,
  options: BearerOptions = {},
): Authorizer {
  object('bearerToken(options)', options, ['forward'])
  const { forward = false } = options
  check('bearerToken(options).forward', 'a boolean', forward, isBoolean)
  const lookUp = typeof tokens === 'function' ? tokens : hashedTokens(tokens)
  const authorize = (req: IncomingMessage) => {
    const given = req.headers.authorization === undefined ? undefined : onlyField(req, 'authorization')
    const token = given === undefined ? undefined : credentials.exec(given)?.[1]
    return token === undefined ? undefined : lookUp(token)
  }
  return Object.assign(authorize, { consumes: forward ? [] : ['authorization'], challenge: 'Bearer' })
}

/** RFC 6750 §2.1 */
const credentials = /^Bearer +([\w~+/.-]+=*) *$/i

export type TokenLookup = (token: string) => Principal | Promise<Principal>

function hashedTokens(tokens: Readonly<Record<string, string>> | ReadonlyMap<string, string>): TokenLookup {
  const entries = tokens instanceof Map ? [...(tokens as ReadonlyMap<string, string>)] : Object.entries(tokens ?? {})
  if (entries.length === 0) throw new InvalidOptionError('bearerToken(tokens)', 'at least one token', 'none')
  for (const [index, entry] of entries.entries()) assertEntry(`bearerToken(tokens), entry ${index + 1}`, entry)
  const known = new Map(entries.map(([token, principal]) => [hash(token), principal]))
  return (token) => known.get(hash(token))
}

/** @throws `INVALID_OPTION`, which does not show the token */
function assertEntry(option: string, [token, principal]: readonly [string, string]): void {
  if (!isPrincipal(principal)) {
    const got = typeof principal === 'string' ? `one of ${(principal as string).length}` : typeof principal
    throw new InvalidOptionError(option, `a principal of 1 to ${maxPrincipal} characters`, got)
  }
  if (token.length < 16) {
    throw new InvalidOptionError(option, 'tokens of at least 16 characters', `one of ${token.length}`)
  }
  if (credentials.exec(`Bearer ${token}`)?.[1] !== token) {
    throw new InvalidOptionError(option, 'a token of letters, digits and -._~+/, and = at the end', 'something else')
  }
}

function hash(token: string): string {
  return createHash('sha256').update(token).digest('base64')
}

export interface TrustedHeaderOptions {
  /**
   * Addresses, or networks such as `10.0.0.0/8`, of the proxies that set the header. From anybody else it is worth nothing,
   * and the request is refused.
   *
   * @default ['127.0.0.0/8', '::1']
   */
  readonly proxies?: readonly string[] | undefined
}

/**
 * Authorises by a header that a proxy in front sets, such as `X-Forwarded-User`. The proxy must remove it from what clients
 * send: one that comes twice is nobody, as is a name of more than 256 characters.
 *
 * @throws `INVALID_OPTION`
 */
export function trustedHeader(name: string, options: TrustedHeaderOptions = {}): Authorizer {
  const lower = idHeader('trustedHeader(name)', name).toLowerCase()
  object('trustedHeader(options)', options, ['proxies'])
  const proxies = networks(options.proxies ?? ['127.0.0.0/8', '::1'])
  const authorize = (req: IncomingMessage) => {
    const address = req.socket.remoteAddress
    // A unix socket has no address; who reaches it is decided by its permissions.
    if (address !== undefined && !contains(proxies, address)) return undefined
    // A proxy that adds its own to what the client sent has not been told to replace it.
    const found = onlyField(req, lower)
    return isPrincipal(found) ? found : undefined
  }
  // Nothing that a client could send would help: its proxy is to name it.
  return Object.assign(authorize, { reads: [lower], challenge: 'TrustedHeader' })
}

/**
 * The value of a header field that may come only once (RFC 9110 §5.3); `undefined` when it does not come, or again: Node shows
 * the first of some of these fields, and whoever reads the request later may take the last.
 *
 * @param lower the field's name, in lower case.
 */
function onlyField({ rawHeaders }: IncomingMessage, lower: string): string | undefined {
  let found: string | undefined
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.toLowerCase() !== lower) continue
    if (found !== undefined) return undefined
    found = rawHeaders[i + 1]
  }
  return found
}

function networks(list: readonly string[]): BlockList {
  const blocks = new BlockList()
  for (const entry of list) {
    const [address = '', prefix] = entry.split('/')
    const family = isIPv4(address) ? 'ipv4' : isIPv6(address) ? 'ipv6' : undefined
    const bits = prefix === undefined ? undefined : Number(prefix)
    const isValid = bits === undefined || (/^\d{1,3}$/.test(prefix ?? '') && bits <= (family === 'ipv4' ? 32 : 128))
    if (family === undefined || !isValid) {
      throw new InvalidOptionError('proxies', 'addresses, or networks such as "10.0.0.0/8"', JSON.stringify(entry))
    }
    if (bits === undefined) blocks.addAddress(address, family)
    else blocks.addSubnet(address, bits, family)
  }
  return blocks
}

function contains(blocks: BlockList, address: string): boolean {
  const plain = plainAddress(address)
  return blocks.check(plain, isIPv4(plain) ? 'ipv4' : 'ipv6')
}

export function isPrincipal(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= maxPrincipal
}
