import type { IncomingMessage } from 'node:http'
import type { Pool } from '../../index.ts'
import { check, count, duration, isBoolean, isPort, object } from '../check.ts'
import type { RequestRecord, RequestTrace } from './observe.ts'
import type { ClientLimits, GatewayOptions, ListenOptions, UpstreamTimeouts } from './options.ts'
import type { GatewayFailure } from './problem.ts'
import type { SessionIdSource } from './session-id.ts'
import { defaultIdPattern } from './session-id.ts'

/** The options with every default filled in. */
export interface Settings {
  readonly sessionId: readonly SessionIdSource[]
  readonly idPattern: RegExp
  readonly base: string
  readonly host: 'rewrite' | 'keep'
  readonly trustForwarded: boolean
  readonly via: string | false
  readonly retryAfter: number
  readonly upstream: { readonly [K in keyof UpstreamTimeouts]-?: number }
  readonly client: { readonly [K in keyof ClientLimits]-?: number }
  readonly pingInterval: number
  readonly onError: ((failure: GatewayFailure) => void) | undefined
  readonly onRequest: ((record: RequestRecord) => void) | undefined
  readonly trace: ((req: IncomingMessage) => RequestTrace | undefined) | undefined
}

/** @throws `INVALID_OPTION` that names the option, what was expected and what was got. */
export function readSettings(options: GatewayOptions): Settings {
  object('options', options, [
    'sessionId',
    'idPattern',
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
  const { upstream = {}, client = {}, idPattern = defaultIdPattern, base = '', host = 'rewrite' } = options
  const { trustForwarded = false, via = false } = options
  object('upstream', upstream, ['connectTimeout', 'sendTimeout', 'headersTimeout', 'bodyTimeout'])
  object('client', client, ['bodyTimeout', 'sendTimeout', 'targetLength', 'requestsPerSession'])
  const sources = Array.isArray(options.sessionId) ? options.sessionId : [options.sessionId]
  check('sessionId', 'a function, or a non-empty array of them', options.sessionId, () => sources.length > 0)
  for (const source of sources) {
    check('sessionId', 'a function, or a non-empty array of them', source, (value) => typeof value === 'function')
  }
  return {
    sessionId: sources as readonly SessionIdSource[],
    idPattern: check('idPattern', 'a RegExp', idPattern, (it) => it instanceof RegExp),
    base: normalizeBase(
      check('base', 'a plain path such as "/tools"', base, (it) => typeof it === 'string' && plainPath.test(it)),
    ),
    host: check('host', '"rewrite" or "keep"', host, (it) => it === 'rewrite' || it === 'keep'),
    trustForwarded: check('trustForwarded', 'a boolean', trustForwarded, isBoolean),
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
  const { acquire, tryAcquire } = (pool ?? {}) as Partial<Pool>
  const valid = typeof acquire === 'function' && typeof tryAcquire === 'function'
  check('pool', 'what createPool resolves to', pool, () => valid)
}

/** @throws `INVALID_OPTION` */
export function readListenOptions(options: ListenOptions): { port: number; hostname: string } {
  object('options', options, ['port', 'hostname'])
  const { port = 8080, hostname = '127.0.0.1' } = options
  return {
    port: check('port', 'an integer from 0 to 65535', port, isPort),
    // What listhen does not take for a name it would replace by another one, which may be all interfaces.
    hostname: check(
      'hostname',
      'an IP address or a host name',
      hostname,
      (it) => typeof it === 'string' && /^(?!-)[\d.:A-Za-z-]{1,63}(?<!-)$/.test(it),
    ),
  }
}

/** @throws `INVALID_OPTION` */
export function readGrace(options: { readonly grace?: number | undefined }, fallback: number): number {
  object('options', options, ['grace'])
  return duration('grace', options.grace, fallback)
}

const plainPath = /^(?:\/[\w.~-]+)*\/?$/
const token = /^[\w!#$%&'*+.^`|~:/-]+$/

function normalizeBase(base: string): string {
  return base.endsWith('/') ? base.slice(0, -1) : base
}

function isHook(value: unknown): boolean {
  return value === undefined || typeof value === 'function'
}
