import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { parseDuration } from './duration.ts'
import { type FlagName, flags } from './flags.ts'

/** What `corral run` was asked to do. */
export interface RunOptions {
  readonly host: string
  readonly port: number
  readonly sessions: readonly SessionSource[]
  readonly min: number
  readonly max: number
  readonly warm: number
  readonly idleTtl: number | false
  readonly maxAge: number | false
  readonly reuse: false | 'dirty' | { readonly reset: string }
  /** Path to ask over HTTP, or `undefined` for a TCP connect. */
  readonly healthPath: string | undefined
  readonly startTimeout: number
  readonly env: Readonly<Record<string, string>>
  readonly queueLimit: number
  readonly acquireTimeout: number
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
  readonly hosts: readonly string[]
}

export type SessionSource =
  | { readonly from: 'header' | 'cookie' | 'query'; readonly name: string }
  | { readonly from: 'path'; readonly prefix: string }

/** The command line is wrong: shown as one line, without a stack. */
export class UsageError extends Error {}

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
    sessions: given.all('session').map(sessionSource),
    min: count('min', given.one('min')),
    max: count('max', given.one('max')),
    warm: count('warm', given.one('warm')),
    idleTtl: durationOrNever('ttl', given.one('ttl')),
    maxAge: durationOrNever('max-age', given.one('max-age')),
    reuse: reuse(given),
    healthPath: healthPath(given),
    startTimeout: duration('start-timeout', given.one('start-timeout')),
    env: Object.fromEntries(given.all('env').map((text) => variable(text, env))),
    queueLimit: count('queue-limit', given.one('queue-limit')),
    acquireTimeout: duration('acquire-timeout', given.one('acquire-timeout')),
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

/** Longest time that Node's timers keep, in whole days. */
const MAX_DURATION = 24 * 86_400_000

interface Given {
  has(name: FlagName): boolean
  one(name: FlagName): string
  all(name: FlagName): readonly string[]
}

function readFlags(argv: readonly string[]): Given {
  const { values, tokens, positionals } = parse(argv)
  if (positionals.length > 0) {
    throw new UsageError(`Unexpected ${quote(positionals[0])}: the command of the workers goes behind "--"`)
  }
  const seen = tokens.flatMap((token) => (token.kind === 'option' ? [token.name] : []))
  for (const { name, repeatable } of flags) {
    if (!repeatable && seen.indexOf(name) !== seen.lastIndexOf(name)) throw new UsageError(`--${name} is given twice`)
  }
  const all = (name: FlagName): readonly string[] => {
    const value = values[name] ?? flags.find((flag) => flag.name === name)?.default
    return value === undefined ? [] : [value].flat().map(String)
  }
  return { has: (name) => seen.includes(name), one: (name) => all(name)[0] ?? '', all }
}

function parse(argv: readonly string[]) {
  const options = Object.fromEntries(
    flags.map(({ name, value, repeatable }) => [
      name,
      { type: value === undefined ? 'boolean' : 'string', multiple: repeatable === true } as const,
    ]),
  )
  try {
    return parseArgs({ args: [...argv], options, strict: true, allowPositionals: true, tokens: true })
  } catch (error) {
    throw new UsageError(firstSentence(error))
  }
}

/** Node's hints that follow tell how to spell a positional, which there are none of. */
function firstSentence(error: unknown): string {
  const [sentence = ''] = (error instanceof Error ? error.message : String(error)).split(/\.\s|\n/)
  return sentence.replace(/\.$/, '')
}

function port(name: FlagName, text: string): number {
  const value = /^\d{1,5}$/.test(text) ? Number(text) : NaN
  if (!(value <= 65_535)) throw invalid(name, text, 'a port from 0 to 65535')
  return value
}

function count(name: FlagName, text: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN
  if (!Number.isSafeInteger(value)) throw invalid(name, text, 'a whole number')
  return value
}

function duration(name: FlagName, text: string): number {
  const value = parseDuration(text)
  if (value !== undefined && value > MAX_DURATION) throw invalid(name, text, 'at most 24d')
  if (value !== undefined) return value
  const hint = /^\d+$/.test(text) ? `; write ${text}ms or ${text}s` : ''
  throw invalid(name, text, `a duration such as 500ms, 5m or 1h30m${hint}`)
}

function durationOrNever(name: FlagName, text: string): number | false {
  return text === 'never' ? false : duration(name, text)
}

function oneOf<T extends string>(name: FlagName, text: string, choices: readonly T[]): T {
  const choice = choices.find((candidate) => candidate === text)
  if (choice === undefined) throw invalid(name, text, choices.join(', ').replace(/, ([^,]*)$/, ' or $1'))
  return choice
}

function path(name: FlagName, text: string): string {
  if (!/^\/[^\s#]*$/.test(text)) throw invalid(name, text, 'a path that starts with /')
  return text
}

function sessionSource(text: string): SessionSource {
  const [, from, rest] = /^([^:]*)(?::(.*))?$/s.exec(text) ?? []
  if (from === 'path') return { from, prefix: path('session', rest ?? '/s') }
  if ((from === 'header' || from === 'cookie' || from === 'query') && rest !== undefined && rest !== '') {
    return { from, name: rest }
  }
  throw invalid('session', text, 'header:NAME, cookie:NAME, query:NAME, path or path:/PREFIX')
}

function reuse(given: Given): RunOptions['reuse'] {
  const mode = oneOf('reuse', given.one('reuse'), ['off', 'reset', 'dirty'])
  if (given.has('reset-path') !== (mode === 'reset')) {
    throw new UsageError(
      mode === 'reset' ? '--reuse reset needs --reset-path' : '--reset-path has no effect without --reuse reset',
    )
  }
  if (mode === 'reset') return { reset: path('reset-path', given.one('reset-path')) }
  return mode === 'dirty' && mode
}

function healthPath(given: Given): string | undefined {
  if (oneOf('health', given.one('health'), ['http', 'tcp']) === 'http')
    return path('health-path', given.one('health-path'))
  if (given.has('health-path')) throw new UsageError('--health-path has no effect with --health tcp')
  return undefined
}

function variable(text: string, env: NodeJS.ProcessEnv): [string, string] {
  const [, key, value] = /^([^=]+)(?:=(.*))?$/s.exec(text) ?? []
  if (key === undefined) throw invalid('env', text, 'KEY=VALUE or KEY')
  const found = value ?? env[key]
  if (found === undefined) throw invalid('env', text, 'KEY=VALUE, or the name of a variable that is set')
  return [key, found]
}

function admin(given: Given, env: NodeJS.ProcessEnv): AdminOptions | undefined {
  if (given.has('admin')) {
    return { ...address(given.one('admin')), token: adminToken(given, env), hosts: given.all('admin-host') }
  }
  for (const name of ['admin-token-file', 'admin-host'] as const) {
    if (given.has(name)) throw new UsageError(`--${name} has no effect without --admin`)
  }
  return undefined
}

/** Not an option: everyone on the machine can read the command lines of its processes. */
function adminToken(given: Given, env: NodeJS.ProcessEnv): string | undefined {
  if (!given.has('admin-token-file')) return env['CORRAL_ADMIN_TOKEN'] || undefined
  const file = given.one('admin-token-file')
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (cause) {
    throw new UsageError(`--admin-token-file expects a file that can be read: ${(cause as Error).message}`, { cause })
  }
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
  const [, host, digits] = /^(?:(\[[^\]]+\]|[^:]+):)?(\d+)$/.exec(text) ?? []
  if (digits === undefined) throw invalid('admin', text, 'HOST:PORT or PORT')
  return { host: host?.replace(/^\[|\]$/g, '') ?? '127.0.0.1', port: port('admin', digits) }
}

function invalid(name: FlagName, got: string, expected: string): UsageError {
  return new UsageError(`--${name} expects ${expected}, got ${quote(got)}`)
}

function quote(text: string | undefined): string {
  return JSON.stringify(text ?? '')
}
