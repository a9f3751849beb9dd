import type { Pool } from '../../index.ts'
import { check, duration, isBoolean, isPort, object } from '../check.ts'
import type { GatewayFailure } from './problem.ts'
import type { SessionIdSource } from './session-id.ts'
import { defaultIdPattern } from './session-id.ts'

export interface GatewayOptions {
  /**
   * Where the session id of a request is: `fromHeader`, `fromCookie`, `fromQuery`, `fromPath`, or a function. Of several
   * the first that names a session decides; the others are not looked at.
   */
  readonly sessionId: SessionIdSource | readonly SessionIdSource[]
  /**
   * What a session id looks like. Anything else is answered with 400 before it costs anything.
   *
   * @default /^[A-Za-z0-9._~:@+=-]{1,128}$/
   */
  readonly idPattern?: RegExp | undefined
  /**
   * Path that the gateway is mounted under; taken off the target before anything else looks at it. Requests outside it are
   * answered with 400. Only needed for raw handlers: mounted in an h3 app, the gateway finds it out by itself.
   *
   * @default none
   */
  readonly base?: string | undefined
  /**
   * The `Host` that workers see. `'rewrite'`: the worker's own, such as `127.0.0.1:43567`, or `localhost` on a unix socket;
   * the client's is in `X-Forwarded-Host`. `'keep'`: the client's. Local servers often refuse a `Host` that they do not know,
   * as a defence against DNS rebinding (Ollama, Chromium's debugger, Vite); others compare it with `Origin` (Jupyter): those
   * want `'keep'`.
   *
   * @default 'rewrite'
   */
  readonly host?: 'rewrite' | 'keep' | undefined
  /**
   * Whether `X-Forwarded-*`, `Forwarded` and `X-Real-IP` of clients are kept and added to. Only behind a proxy that sets
   * them: otherwise anyone can claim any address. When `false` they are dropped, and set anew.
   *
   * @default false
   */
  readonly trustForwarded?: boolean | undefined
  /**
   * Name of this gateway in `Via` (RFC 9110 §7.6.3). `false` sends none: some servers stop compressing when they see one.
   *
   * @default false
   */
  readonly via?: string | false | undefined
  /** What `Retry-After` says, in milliseconds, rounded up to seconds. @default 1_000 */
  readonly retryAfter?: number | undefined
  readonly upstream?: UpstreamTimeouts | undefined
  /**
   * Called for every request that is refused, fails or is cut, with the cause that the client is not shown. What
   * it throws is an uncaught exception, and does not disturb the request.
   *
   * @default none
   */
  readonly onError?: ((failure: GatewayFailure) => void) | undefined
}

export interface UpstreamTimeouts {
  /** Longest time to connect to a worker, in milliseconds. `0`: no limit. @default 10_000 */
  readonly connectTimeout?: number | undefined
  /**
   * Longest time that bytes of a client wait for a worker that takes none and sends none, in milliseconds; of WebSockets, too.
   * Such a client is not read, so that nothing else tells when it leaves. `0`: no limit.
   *
   * @default 60_000
   */
  readonly sendTimeout?: number | undefined
  /**
   * Longest time from the end of a request to the head of its response, in milliseconds; for WebSockets, of the handshake.
   * `0`: no limit.
   *
   * @default 300_000
   */
  readonly headersTimeout?: number | undefined
  /** Longest silence within a response, in milliseconds. `0`: no limit, as event streams want it. @default 0 */
  readonly bodyTimeout?: number | undefined
}

export interface ListenOptions {
  /** `0`: any free one. A busy one is an error. @default 8080 */
  readonly port?: number | undefined
  /** Address or name to listen on; `0.0.0.0` or `::` for all. @default '127.0.0.1' */
  readonly hostname?: string | undefined
}

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
  readonly onError: ((failure: GatewayFailure) => void) | undefined
}

/** @throws `INVALID_OPTION` that names the option, what was expected and what was got. */
export function readOptions(options: GatewayOptions): Settings {
  object('options', options, [
    'sessionId',
    'idPattern',
    'base',
    'host',
    'trustForwarded',
    'via',
    'retryAfter',
    'upstream',
    'onError',
  ])
  const { upstream = {}, idPattern = defaultIdPattern, base = '', host = 'rewrite' } = options
  const { trustForwarded = false, via = false } = options
  object('upstream', upstream, ['connectTimeout', 'sendTimeout', 'headersTimeout', 'bodyTimeout'])
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
    onError: check('onError', 'a function', options.onError, (it) => it === undefined || typeof it === 'function'),
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
