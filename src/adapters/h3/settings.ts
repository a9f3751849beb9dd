import type { IncomingMessage } from 'node:http'
import type { Pool } from '../../index.ts'
import { InvalidOptionError } from '../../index.ts'
import { check, count, duration, isHostname, isPort, object } from '../check.ts'
import type { Credentials } from './credentials.ts'
import type { IdentitySettings } from './identity/settings.ts'
import { isPlainPath } from './identity/session-id.ts'
import { readIdentitySettings } from './identity/settings.ts'
import type { Reached } from './forwarded.ts'
import type { RequestRecord, RequestTrace } from './observe.ts'
import type { ClientLimits, GatewayOptions, ListenOptions, UpstreamTimeouts } from './options.ts'
import type { GatewayFailure } from './problem.ts'

/** The options with every default filled in. */
export interface Settings extends IdentitySettings {
  readonly base: string
  readonly host: 'rewrite' | 'keep'
  /** How many proxies in front are trusted to tell of the client. */
  readonly proxies: number
  readonly via: string | false
  readonly retryAfter: number
  readonly upstream: { readonly [K in keyof UpstreamTimeouts]-?: number }
  readonly client: { readonly [K in keyof ClientLimits]-?: number }
  readonly pingInterval: number
  readonly onError: ((failure: GatewayFailure) => void) | undefined
  readonly onRequest: ((record: RequestRecord) => void) | undefined
  readonly trace: ((req: IncomingMessage, reached: Reached) => RequestTrace | undefined) | undefined
}

/** @throws `INVALID_OPTION` that names the option, what was expected and what was got. */
export function readSettings(options: GatewayOptions): Settings {
  object('options', options, [
    'sessionId',
    'idPattern',
    'issue',
    'sign',
    'authorize',
    'adopt',
    'base',
    'host',
    'trustForwarded',
    'via',
    'retryAfter',
    'upstream',
    'client',
    'pingInterval',
    'onError',
    'onRequest',
    'trace',
  ])
  const { upstream = {}, client = {}, host = 'rewrite', trustForwarded = false, via = false } = options
  const base = normalizeBase(
    check('base', 'a plain path such as "/tools"', options.base === undefined ? '' : options.base, isPlainPath),
  )
  object('upstream', upstream, ['connectTimeout', 'sendTimeout', 'headersTimeout', 'bodyTimeout'])
  object('client', client, ['bodyTimeout', 'sendTimeout', 'targetLength', 'requestsPerSession'])
  const proxies = Number(check('trustForwarded', 'a boolean, or how many proxies there are', trustForwarded, isProxies))
  return {
    ...readIdentitySettings(options, base, proxies),
    base,
    host: check('host', '"rewrite" or "keep"', host, (it) => it === 'rewrite' || it === 'keep'),
    proxies,
    via: check(
      'via',
      'false, or a name of letters, digits and punctuation',
      via,
      (it) => it === false || (typeof it === 'string' && token.test(it)),
    ),
    retryAfter: duration('retryAfter', options.retryAfter, 1_000),
    upstream: {
      connectTimeout: duration('upstream.connectTimeout', upstream.connectTimeout, 10_000),
      sendTimeout: duration('upstream.sendTimeout', upstream.sendTimeout, 60_000),
      headersTimeout: duration('upstream.headersTimeout', upstream.headersTimeout, 300_000),
      bodyTimeout: duration('upstream.bodyTimeout', upstream.bodyTimeout, 0),
    },
    client: {
      bodyTimeout: duration('client.bodyTimeout', client.bodyTimeout, 60_000),
      sendTimeout: duration('client.sendTimeout', client.sendTimeout, 60_000),
      targetLength: count('client.targetLength', client.targetLength, 8_192),
      requestsPerSession: count('client.requestsPerSession', client.requestsPerSession, 256),
    },
    pingInterval: duration('pingInterval', options.pingInterval, 0),
    onError: check('onError', 'a function', options.onError, isHook),
    onRequest: check('onRequest', 'a function', options.onRequest, isHook),
    trace: check('trace', 'a function', options.trace, isHook),
  }
}

/** @throws `INVALID_OPTION` unless `pool` can do what the gateway asks of a pool. */
export function assertPool(pool: Pool): void {
  const { acquire, tryAcquire, end } = (pool ?? {}) as Partial<Pool>
  const isPool = [acquire, tryAcquire, end].every((method) => typeof method === 'function')
  check('pool', 'what createPool resolves to', pool, () => isPool)
}

/** {@link ListenOptions} with every default filled in. */
export interface ListenSettings {
  readonly port: number
  readonly hostname: string
  readonly tls: boolean | Credentials
  readonly headersTimeout: number
  readonly headersSize: number
  readonly keepAliveTimeout: number
}

/** @throws `INVALID_OPTION` */
export function readListenOptions(options: ListenOptions): ListenSettings {
  object('options', options, ['port', 'hostname', 'tls', 'headersTimeout', 'headersSize', 'keepAliveTimeout'])
  const { port = 8080, hostname = '127.0.0.1' } = options
  return {
    port: check('port', 'an integer from 0 to 65535', port, isPort),
    // What listhen does not take for a name it would replace by another one, which may be all interfaces.
    hostname: check(
      'hostname',
      'an IP address or a host name, without a port',
      hostname,
      (it) => isHostname(it) && /^(?!-)[\d.:A-Za-z-]{1,63}(?<!-)$/.test(it as string),
    ),
    tls: readTls(options.tls ?? false),
    headersTimeout: duration('headersTimeout', options.headersTimeout, 15_000),
    headersSize: count('headersSize', options.headersSize, 16_384),
    keepAliveTimeout: duration('keepAliveTimeout', options.keepAliveTimeout, 5_000),
  }
}

function readTls(tls: NonNullable<ListenOptions['tls']>): ListenSettings['tls'] {
  if (typeof tls === 'boolean') return tls
  object('tls', tls, ['cert', 'key', 'passphrase'])
  const { cert, key, passphrase } = tls
  assertSecret('tls.cert', 'PEM, or the path of a file', cert)
  assertSecret('tls.key', 'PEM, or the path of a file', key)
  if (passphrase !== undefined) assertSecret('tls.passphrase', 'text', passphrase)
  return { cert, key, ...(passphrase !== undefined && { passphrase }) }
}

/** @throws `INVALID_OPTION`, in which neither a key nor its passphrase belongs: an empty one is no secret. */
function assertSecret(option: string, expected: string, value: unknown): void {
  if (typeof value === 'string' && value !== '') return
  throw new InvalidOptionError(option, expected, value === '' ? '""' : typeof value)
}

/** @throws `INVALID_OPTION` */
export function readGrace(options: { readonly grace?: number | undefined }, fallback: number): number {
  object('options', options, ['grace'])
  return duration('grace', options.grace, fallback)
}

const token = /^[\w!#$%&'*+.^`|~:/-]+$/

function normalizeBase(base: string): string {
  return base.endsWith('/') ? base.slice(0, -1) : base
}

function isProxies(value: unknown): boolean {
  return typeof value === 'boolean' || (Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 32)
}

function isHook(value: unknown): boolean {
  return value === undefined || typeof value === 'function'
}
