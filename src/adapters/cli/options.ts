import { isIPv6 } from 'node:net'
import type { ListenOptions } from '../h3/index.ts'
import { passphraseVariable } from './flags.ts'
import { type Given, UsageError, count, duration, invalid, oneOf, path, port, readFlags } from './given.ts'
import { type IdentityOptions, identity } from './identity.ts'
import { type IsolationFlags, isolation } from './isolation.ts'
import { type PoolFlags, poolFlags } from './pool-flags.ts'
import { readSecret } from './secret-file.ts'

/** What `corral run` was asked to do. */
export interface RunOptions {
  readonly host: string
  readonly port: number
  readonly identity: IdentityOptions
  readonly tls: NonNullable<ListenOptions['tls']>
  /** Proxies in front that tell the client's address. */
  readonly proxies: number
  readonly headersTimeout: number
  readonly keepAliveTimeout: number
  /** Longest time to the head of a response. */
  readonly responseTimeout: number
  /** Longest time that bytes wait for a client. */
  readonly sendTimeout: number
  readonly pingInterval: number
  readonly requestsPerSession: number
  readonly pool: PoolFlags
  /** Path to ask over HTTP, or `undefined` for a TCP connect. */
  readonly healthPath: string | undefined
  readonly startTimeout: number
  readonly env: Readonly<Record<string, string>>
  readonly isolation: IsolationFlags
  readonly grace: number
  readonly drainDelay: number
  readonly admin: AdminOptions | undefined
  readonly metrics: boolean
  readonly otel: boolean
  readonly accessLog: { readonly queries: boolean } | undefined
  readonly json: boolean
  readonly verbose: boolean
  readonly command: string
  readonly args: readonly string[]
}

export interface AdminOptions {
  readonly host: string
  readonly port: number
  readonly token: string | undefined
  /** What errors about the token name. */
  readonly tokenFrom: '--admin-token-file' | 'CORRAL_ADMIN_TOKEN'
  readonly hosts: readonly string[]
}

/** Reads the arguments after `corral run`, of which everything behind `--` is the worker's command. */
export function parseRunOptions(argv: readonly string[], env: NodeJS.ProcessEnv = process.env): RunOptions {
  const end = argv.indexOf('--')
  const [command, ...args] = end === -1 ? [] : argv.slice(end + 1)
  const given = readFlags(end === -1 ? argv : argv.slice(0, end))
  if (command === undefined || command === '') {
    throw new UsageError('The command of the workers is missing: corral run [options] -- <command> [args…]')
  }
  return {
    host: given.one('host'),
    port: port('port', given.one('port')),
    identity: identity(given, env),
    tls: tls(given, env),
    proxies: count('proxies', given.one('proxies'), 32),
    headersTimeout: duration('headers-timeout', given.one('headers-timeout')),
    keepAliveTimeout: duration('keep-alive', given.one('keep-alive')),
    responseTimeout: duration('response-timeout', given.one('response-timeout')),
    sendTimeout: duration('send-timeout', given.one('send-timeout')),
    pingInterval: duration('ping-interval', given.one('ping-interval')),
    requestsPerSession: count('requests-per-session', given.one('requests-per-session')),
    pool: poolFlags(given),
    healthPath: healthPath(given),
    startTimeout: duration('start-timeout', given.one('start-timeout')),
    env: variables(given, env),
    isolation: isolation(given),
    grace: duration('grace', given.one('grace')),
    drainDelay: duration('drain-delay', given.one('drain-delay')),
    admin: admin(given, env),
    metrics: metrics(given),
    otel: given.has('otel'),
    accessLog: accessLog(given),
    json: given.has('json'),
    verbose: given.has('verbose'),
    command,
    args,
  }
}

function tls(given: Given, env: NodeJS.ProcessEnv): RunOptions['tls'] {
  const [cert, key] = [given.one('tls-cert'), given.one('tls-key')]
  if (given.has('tls-cert') !== given.has('tls-key')) throw new UsageError('--tls-cert and --tls-key go together')
  if (!given.has('tls-cert')) return given.has('tls')
  if (given.has('tls')) throw new UsageError('--tls makes a certificate, and --tls-cert brings one: give one of them')
  return { cert, key, passphrase: env[passphraseVariable] || undefined }
}

function healthPath(given: Given): string | undefined {
  if (oneOf('health', given.one('health'), ['http', 'tcp']) === 'http')
    return path('health-path', given.one('health-path'))
  if (given.has('health-path')) throw new UsageError('--health-path has no effect with --health tcp')
  return undefined
}

function variables(given: Given, env: NodeJS.ProcessEnv): RunOptions['env'] {
  const entries = given.all('env').map((text) => variable(text, env))
  const names = entries.map(([name]) => name)
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined) throw new UsageError(`--env ${twice} is given twice`)
  return Object.fromEntries(entries)
}

/**
 * POSIX (8.1) wants portable names of letters, digits and underscores, and lets programs take others, which some do
 * (`discovery.type`). White space and control characters are in none: those are mistakes of quoting.
 */
function variable(text: string, env: NodeJS.ProcessEnv): [string, string] {
  const [, key, value] = /^([^=\s\p{Cc}]+)(?:=(.*))?$/su.exec(text) ?? []
  if (key === undefined) throw invalid('env', text, 'KEY=VALUE or KEY, without white space in KEY')
  const found = value ?? env[key]
  if (found === undefined) throw invalid('env', text, 'KEY=VALUE, or the name of a variable that is set')
  return [key, found]
}

function admin(given: Given, env: NodeJS.ProcessEnv): AdminOptions | undefined {
  if (given.has('admin')) {
    const { host, port } = address(given.one('admin'))
    if (port !== 0 && String(port) === given.one('port') && host === given.one('host')) {
      throw new UsageError('--admin and --port expect ports of their own, got one for both')
    }
    return { host, port, ...adminToken(given, env), hosts: given.all('admin-host') }
  }
  for (const name of ['admin-token-file', 'admin-host'] as const) {
    if (given.has(name)) throw new UsageError(`--${name} has no effect without --admin`)
  }
  return undefined
}

/** Not an option: everyone on the machine can read the command lines of its processes. */
function adminToken(given: Given, env: NodeJS.ProcessEnv): Pick<AdminOptions, 'token' | 'tokenFrom'> {
  if (!given.has('admin-token-file')) {
    return { token: env['CORRAL_ADMIN_TOKEN'] || undefined, tokenFrom: 'CORRAL_ADMIN_TOKEN' }
  }
  return { token: readSecret('admin-token-file', given.one('admin-token-file')), tokenFrom: '--admin-token-file' }
}

function metrics(given: Given): boolean {
  if (given.has('metrics') && !given.has('admin')) throw new UsageError('--metrics has no effect without --admin')
  return given.has('metrics')
}

function accessLog(given: Given): RunOptions['accessLog'] {
  const queries = given.has('access-log-query')
  if (given.has('access-log')) return { queries }
  if (queries) throw new UsageError('--access-log-query has no effect without --access-log')
  return undefined
}

function address(text: string): { host: string; port: number } {
  const [, ipv6, host = '127.0.0.1', digits] = /^(?:(?:\[([^\]]+)\]|([^:[\]]+)):)?(\d+)$/.exec(text) ?? []
  if (digits === undefined || (ipv6 !== undefined && !isIPv6(ipv6))) {
    throw invalid('admin', text, 'HOST:PORT, [IPv6 address]:PORT or PORT')
  }
  return { host: ipv6 ?? host, port: port('admin', digits) }
}
