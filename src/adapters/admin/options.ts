import type { Pool } from '../../index.ts'
import { InvalidOptionError } from '../../index.ts'
import { check, isHostname, isPort, object } from '../check.ts'
import type { Gateway } from '../h3/index.ts'
import { digestOf } from './access.ts'

export interface AdminOptions {
  /**
   * What `Authorization: Bearer …` must bring: at least 16 letters, digits and `-._~+/=`. With a token everything that names a
   * session or a worker, or changes one, needs it. Without, sessions and workers are shown to this machine only, and nothing can be
   * changed.
   *
   * @default none
   */
  readonly token?: string | undefined
  /**
   * Names under which the API is reached, without a port, besides `localhost` and IP addresses. Requests for any other host are
   * refused: a web page could have bound its own name to this address (DNS rebinding).
   *
   * @default []
   */
  readonly hosts?: readonly string[] | undefined
  /**
   * Whether the program takes new sessions, besides the pool: `/readyz` is 200 only while both do. Let it fail before a drain begins.
   * May be asynchronous.
   *
   * @default always
   */
  readonly isReady?: (() => boolean | Promise<boolean>) | undefined
  /** The gateway, whose counts are shown with those of the pool, or a function that returns it once there is one. @default none */
  readonly gateway?: Source<Gateway> | undefined
  /** What `/metrics` answers with, such as `createMetrics()` of `corral/metrics` makes it. Absent: it answers 404. @default none */
  readonly metrics?: MetricsSource | undefined
  /** Told what went wrong inside, which the client is not shown. @default nobody */
  readonly onError?: ((error: unknown) => void) | undefined
}

export interface MetricsSource {
  /** Media type of what `render` makes. */
  readonly contentType: string
  render(): Promise<string>
}

export interface AdminListenOptions {
  /** `0`: any free one. A busy one is an error. @default 8081 */
  readonly port?: number | undefined
  /** Address or name to listen on. Anything but the default should come with a token. @default '127.0.0.1' */
  readonly hostname?: string | undefined
}

/** Something, or where to ask for it while it is still to come. */
export type Source<T> = T | (() => T | undefined)

/** The options with every default filled in. */
export interface AdminSettings {
  /** `undefined` while there is none yet. */
  pool(): Pool | undefined
  /** Of the token; `undefined` where there is none. */
  readonly digest: Buffer | undefined
  readonly hosts: ReadonlySet<string>
  gateway(): Gateway | undefined
  readonly metrics: MetricsSource | undefined
  /** The OpenAPI document. */
  readonly description: object
  isReady(): Promise<boolean>
  onError(error: unknown): void
}

/** @throws `INVALID_OPTION` that names the option, what was expected and what was got. */
export function readOptions(source: Source<Pool>, options: AdminOptions, description: object): AdminSettings {
  check('pool', 'what createPool resolves to, or a function that returns it', source, isPoolSource)
  object('options', options, ['token', 'hosts', 'isReady', 'gateway', 'metrics', 'onError'])
  const { token, hosts = [], isReady = () => true, gateway, metrics, onError = () => {} } = options
  if (token !== undefined) assertToken(token)
  check('hosts', 'an array', hosts, Array.isArray)
  for (const host of hosts) check('hosts', 'names without ports', host, isHost)
  check('isReady', 'a function', isReady, isFunction)
  check('gateway', 'what createGateway returns, or a function that returns it', gateway, isGatewaySource)
  check('metrics', 'what createMetrics resolves to', metrics, (it) => it === undefined || isMetrics(it))
  check('onError', 'a function', onError, isFunction)
  const pool = typeof source === 'function' ? source : () => source
  return {
    pool,
    digest: token === undefined ? undefined : digestOf(token),
    hosts: new Set(hosts.map((host) => host.toLowerCase())),
    gateway: typeof gateway === 'function' ? gateway : () => gateway,
    metrics,
    description,
    isReady: async () => (await isReady()) && pool()?.stats().state === 'running',
    onError,
  }
}

/** @throws `INVALID_OPTION` */
export function readListenOptions(options: AdminListenOptions): { port: number; hostname: string } {
  object('options', options, ['port', 'hostname'])
  const { port = 8081, hostname = '127.0.0.1' } = options
  return {
    port: check('port', 'an integer from 0 to 65535', port, isPort),
    hostname: check('hostname', 'an IP address or a host name, without a port', hostname, isHostname),
  }
}

/** @throws `INVALID_OPTION`, which does not show what was given */
function assertToken(token: unknown): void {
  if (typeof token === 'string' && /^[\w.~+/-]{16,}=*$/.test(token)) return
  throw new InvalidOptionError('token', 'at least 16 letters, digits and -._~+/, and = at the end', 'something else')
}

function isPoolSource(value: unknown): boolean {
  const { stats, sessions } = (value ?? {}) as Partial<Pool>
  return typeof value === 'function' || (typeof stats === 'function' && typeof sessions === 'function')
}

function isGatewaySource(value: unknown): boolean {
  return value === undefined || typeof value === 'function' || typeof (value as Gateway | null)?.stats === 'function'
}

function isHost(value: unknown): boolean {
  return typeof value === 'string' && /^[\w.-]+$/.test(value)
}

function isMetrics(value: unknown): boolean {
  const { contentType, render } = (value ?? {}) as Partial<MetricsSource>
  return typeof contentType === 'string' && typeof render === 'function'
}

function isFunction(value: unknown): boolean {
  return typeof value === 'function'
}
