import { InvalidOptionError } from '../../../index.ts'
import { check, duration, object } from '../../check.ts'
import type { Replacements } from '../headers.ts'
import type { AdoptOptions, GatewayOptions } from '../options.ts'
import { TellingFields } from '../spelling.ts'
import type { Authorizer } from './authorize.ts'
import type { IssueOptions, Issuer } from './issue.ts'
import { createIssuer } from './issue.ts'
import type { IdCarrier, SessionIdSource } from './session-id.ts'
import { defaultIdPattern, idHeader } from './session-id.ts'
import type { IdSigner } from './signature.ts'
import { createIdSigner } from './signature.ts'

/** How requests are told apart, with every default filled in. */
export interface IdentitySettings {
  readonly sources: readonly SessionIdSource[]
  readonly idPattern: RegExp
  readonly signer: IdSigner | undefined
  readonly forged: 'refuse' | 'issue'
  /** `undefined`: no ids are issued. */
  readonly issue: Issuer | undefined
  /** Response header, in lower case, that issued ids are in; `undefined`: they are in a cookie, or there are none. */
  readonly issuesIn: string | undefined
  /** `undefined`: workers choose no ids. */
  readonly adopt: AdoptSettings | undefined
  readonly authorize: Authorizer | undefined
  /** Fields that the authoriser keeps from the workers. */
  readonly consumed: Replacements | undefined
  readonly telling: TellingFields
}

export interface AdoptSettings {
  /** Response header, in lower case, that the worker's id is in. */
  readonly header: string
  readonly onAdopt: AdoptOptions['onAdopt']
}

/**
 * @param proxies how many proxies in front are trusted.
 * @throws `INVALID_OPTION`
 */
export function readIdentitySettings(options: GatewayOptions, base: string, proxies: number): IdentitySettings {
  const { idPattern = defaultIdPattern, authorize, sign, issue = false, adopt = false } = options
  const sources = readSources(options.sessionId)
  const carriers = sources.flatMap(({ carrier }) => carrier ?? [])
  if (issue !== false && adopt !== false) throw conflict('adopt', 'issue')
  if (sign !== undefined && adopt !== false) throw conflict('adopt', 'sign')
  if (sign !== undefined) object('sign', sign, ['keys', 'forged'])
  const forged = sign?.forged ?? 'refuse'
  check(
    'sign.forged',
    '"refuse", or "issue" beside the option issue',
    forged,
    (it) => it === 'refuse' || (it === 'issue' && issue !== false),
  )
  check('authorize', 'a function', authorize, (it) => it === undefined || typeof it === 'function')
  const consumed = authorize?.consumes ?? []
  const telling = carriers.filter(({ kind }) => kind === 'header').map(({ name }) => name)
  return {
    sources,
    idPattern: check('idPattern', 'a RegExp', idPattern, (it) => it instanceof RegExp),
    signer: sign === undefined ? undefined : createIdSigner(sign.keys),
    forged,
    issue: issue === false ? undefined : readIssuer(issue, carriers[0], base, proxies),
    issuesIn: issue !== false && carriers[0]?.kind === 'header' ? carriers[0].name.toLowerCase() : undefined,
    adopt: adopt === false ? undefined : readAdopt(adopt, carriers),
    authorize,
    consumed:
      consumed.length === 0 ? undefined : Object.fromEntries(consumed.map((name) => [name.toLowerCase(), undefined])),
    telling: new TellingFields([...telling, ...(authorize?.reads ?? []), ...consumed]),
  }
}

function readSources(option: GatewayOptions['sessionId']): readonly SessionIdSource[] {
  const sources = (Array.isArray(option) ? option : [option]) as readonly SessionIdSource[]
  const expected = 'a function, or a non-empty array of them'
  check('sessionId', expected, option, () => sources.length > 0)
  for (const source of sources) check('sessionId', expected, source, (it) => typeof it === 'function')
  return sources
}

function readIssuer(option: true | IssueOptions, carrier: IdCarrier | undefined, base: string, proxies: number) {
  const options = option === true ? {} : option
  object('issue', options, ['sameSite', 'secure', 'path', 'maxAge'])
  const { sameSite, secure, path, maxAge } = options
  check('issue.sameSite', '"strict", "lax" or "none"', sameSite, (it) => sites.has(it))
  check('issue.secure', 'a boolean or "auto"', secure, (it) => securities.has(it))
  check(
    'issue.path',
    'a path such as "/tools"',
    path,
    (it) => it === undefined || (typeof it === 'string' && /^\/[\w.~/-]*$/.test(it)),
  )
  if (maxAge !== undefined) duration('issue.maxAge', maxAge, 0)
  if (carrier === undefined) {
    throw new InvalidOptionError('issue', 'fromCookie or fromHeader among sessionId', 'none of them')
  }
  // Browsers refuse such cookies.
  const mustBeSecure = sameSite === 'none' || /^__(?:Host|Secure)-/i.test(carrier.name)
  if (carrier.kind === 'cookie' && mustBeSecure && secure === false) {
    throw new InvalidOptionError(
      'issue.secure',
      'true, for SameSite=None and cookies named __Host- or __Secure-',
      'false',
    )
  }
  const isHostOnly = /^__Host-/i.test(carrier.name)
  if (isHostOnly && (path ?? (base || '/')) !== '/') {
    throw new InvalidOptionError('issue.path', '"/", for cookies named __Host-', JSON.stringify(path ?? base))
  }
  const known = path ?? (base === '' && isHostOnly ? '/' : base || undefined)
  return createIssuer(carrier, { ...options, path: known, secure: mustBeSecure ? true : secure }, proxies)
}

const sites: ReadonlySet<unknown> = new Set(['strict', 'lax', 'none', undefined])
const securities: ReadonlySet<unknown> = new Set([true, false, 'auto', undefined])

function readAdopt(option: true | AdoptOptions, carriers: readonly IdCarrier[]): AdoptSettings {
  const options: AdoptOptions = option === true ? {} : option
  object('adopt', options, ['header', 'onAdopt'])
  const { onAdopt } = options
  check('adopt.onAdopt', 'a function', onAdopt, (it) => it === undefined || typeof it === 'function')
  const headers = new Set(carriers.flatMap(({ kind, name }) => (kind === 'header' ? [name.toLowerCase()] : [])))
  const name = options.header ?? [...headers][0]
  if (name === undefined) {
    throw new InvalidOptionError('adopt', 'a header, or fromHeader among sessionId', 'none of them')
  }
  // Which of them a worker answers with, nobody could tell.
  if (options.header === undefined && headers.size > 1) {
    throw new InvalidOptionError('adopt', 'one fromHeader among sessionId, or adopt.header', [...headers].join(', '))
  }
  return { header: idHeader('adopt.header', name).toLowerCase(), onAdopt }
}

function conflict(option: string, other: string): InvalidOptionError {
  return new InvalidOptionError(option, `nothing beside ${other}: the ids are the workers' or the gateway's`, 'both')
}
