import type { Authorizer, GatewayOptions, SessionIdSource } from '../h3/index.ts'
import { createIdSigner, fromCookie, fromHeader, fromPath, fromQuery, trustedHeader } from '../h3/index.ts'
import type { Report } from './report.ts'
import { type Given, UsageError, invalid, naming, oneOf, path } from './given.ts'
import { linesOf, readSecret } from './secret-file.ts'
import type { TokenFile } from './token-file.ts'
import { followTokens, readTokenFile } from './token-file.ts'

/** How requests are told apart. */
export interface IdentityOptions {
  readonly sessions: readonly SessionSource[]
  readonly issue: boolean
  readonly sign: { readonly keys: readonly string[]; readonly forged: 'refuse' | 'issue' } | undefined
  readonly adopt: boolean
  readonly authorize: TokenFile | UserHeader | undefined
}

export type SessionSource =
  | { readonly from: 'header' | 'cookie' | 'query'; readonly name: string }
  | { readonly from: 'path'; readonly prefix: string }

interface UserHeader {
  readonly header: string
  /** Addresses of the proxies that may set it; this machine's when there are none. */
  readonly proxies: readonly string[]
}

export function identity(given: Given, env: NodeJS.ProcessEnv): IdentityOptions {
  const sessions = given.all('session').map(sessionSource)
  const [issue, adopt] = [given.has('issue'), given.has('adopt')]
  const signed = sign(given, env)
  if (issue && !sessions.some(({ from }) => from === 'header' || from === 'cookie')) {
    throw new UsageError('--issue needs a --session that can carry an id: header:NAME or cookie:NAME')
  }
  if (adopt) {
    if (issue) throw new UsageError('--adopt and --issue: give one of them')
    if (signed !== undefined) {
      const keys = given.has('keys-file') ? '--keys-file' : 'CORRAL_KEYS'
      throw new UsageError(`--adopt and ${keys}: workers that choose the ids cannot sign them`)
    }
    if (headersOf(sessions).size !== 1)
      throw new UsageError('--adopt needs one --session header:NAME, and no second header')
  }
  const seen = new Set<string>()
  for (const source of sessions) {
    const spelled = spell(source)
    if (seen.has(spelled)) throw new UsageError(`--session ${spelled} is given twice`)
    seen.add(spelled)
  }
  const user = given.one('user-header').toLowerCase()
  if (headersOf(sessions).has(user)) throw new UsageError('--user-header and --session: one header cannot name both')
  return { sessions, issue, sign: signed, adopt, authorize: authorize(given) }
}

/** The names of headers are the same in whatever case. */
function spell(source: SessionSource): string {
  if (source.from === 'path') return `path:${source.prefix}`
  return `${source.from}:${source.from === 'header' ? source.name.toLowerCase() : source.name}`
}

function headersOf(sessions: readonly SessionSource[]): Set<string> {
  return new Set(sessions.flatMap((source) => (source.from === 'header' ? [source.name.toLowerCase()] : [])))
}

/** @throws {UsageError} An option has a value that the library refuses. */
export function identityOf(
  options: IdentityOptions,
  report: Report,
): Pick<GatewayOptions, 'sessionId' | 'authorize'> & Pick<GatewayOptions, 'issue' | 'sign' | 'adopt'> {
  const { sessions, issue, sign, adopt, authorize } = options
  return {
    sessionId: sessions.map((source) => naming('--session', () => sourceOf(source))),
    issue,
    sign,
    adopt: adopt && { onAdopt: (adopted) => report({ type: 'session.adopted', ...adopted }) },
    authorize: authorize && authorizerOf(authorize, report),
  }
}

function sourceOf(source: SessionSource): SessionIdSource {
  return source.from === 'path' ? fromPath(source.prefix) : sources[source.from](source.name)
}

const sources = { header: fromHeader, cookie: fromCookie, query: fromQuery } as const

function authorizerOf(options: NonNullable<IdentityOptions['authorize']>, report: Report): Authorizer {
  if ('tokens' in options) return followTokens(options, report)
  const { header, proxies } = options
  return naming(proxies.length === 0 ? '--user-header' : '--user-proxy', () =>
    trustedHeader(header, proxies.length === 0 ? {} : { proxies }),
  )
}

function sessionSource(text: string): SessionSource {
  const [, from, rest] = /^([^:]*)(?::(.*))?$/s.exec(text) ?? []
  if (from === 'path') return { from, prefix: path('session', rest ?? '/s') }
  if ((from === 'header' || from === 'cookie' || from === 'query') && rest !== undefined && rest !== '') {
    return { from, name: rest }
  }
  throw invalid('session', text, 'header:NAME, cookie:NAME, query:NAME, path or path:/PREFIX')
}

function sign(given: Given, env: NodeJS.ProcessEnv): IdentityOptions['sign'] {
  const forged = oneOf('forged', given.one('forged'), ['refuse', 'issue'])
  const fromFile = given.has('keys-file')
  const text = fromFile ? readSecret('keys-file', given.one('keys-file')) : env['CORRAL_KEYS']
  const keys = linesOf((fromFile ? text : text?.replaceAll(',', '\n')) ?? '')
  if (keys.length > 0) {
    naming(fromFile ? '--keys-file' : 'CORRAL_KEYS', () => createIdSigner(keys))
    if (forged === 'issue' && !given.has('issue')) throw new UsageError('--forged issue has no effect without --issue')
    return { keys, forged }
  }
  if (fromFile) throw new UsageError('--keys-file expects a file with a key in a line, got none')
  // Set and empty: a secret that has not arrived. Without it anyone could have any session.
  if (text !== undefined) throw new UsageError('CORRAL_KEYS expects keys with commas between, got none')
  if (forged === 'issue') throw new UsageError('--forged issue has no effect without --keys-file')
  return undefined
}

function authorize(given: Given): IdentityOptions['authorize'] {
  const header = given.has('user-header') ? given.one('user-header') : undefined
  if (header === undefined && given.has('user-proxy')) {
    throw new UsageError('--user-proxy has no effect without --user-header')
  }
  if (given.has('tokens-file')) {
    if (header !== undefined) throw new UsageError('--tokens-file and --user-header: give one of them')
    return readTokenFile(given.one('tokens-file'))
  }
  return header === undefined ? undefined : { header, proxies: given.all('user-proxy') }
}
