import type { IncomingMessage } from 'node:http'
import type { Session } from '../../../index.ts'
import type { Replacements } from '../headers.ts'
import { callOut } from '../observe.ts'
import { Refusal, toHookRefusal } from '../problem.ts'
import type { BasedTarget } from '../target.ts'
import { Adoptions } from './adoptions.ts'
import { isPrincipal, maxPrincipal } from './authorize.ts'
import type { Field } from './issue.ts'
import { randomId } from './issue.ts'
import { withoutCookie, type SessionIdResult, type SessionIdSource } from './session-id.ts'
import type { AdoptSettings, IdentitySettings } from './settings.ts'

/** Which session a request is for, and on whose behalf. */
export interface Identity {
  /** The session's id in the pool. */
  readonly sessionId: string
  /** The target that the worker sees. */
  readonly target: string
  /** What was cut off the target. */
  readonly prefix: string
  readonly principal: string | undefined
  /** What the worker gets in place of fields whose ids were refused. */
  readonly disowned: Replacements | undefined
  /** A field of the response that tells the client its new id. */
  readonly issued: Field | undefined
  /** Response header, in lower case, that tells of issued ids: a worker's own would be another one. */
  readonly issuesIn: string | undefined
  /** What becomes of an id that the worker chooses; `undefined` where workers choose none. */
  readonly adoption: Adoption | undefined
}

/**
 * `adopt`: the session is new, and its worker is to name it. `keep`: it has a name, and must be live. `end`: it must be
 * live, and ends with the request.
 */
export type Adoption =
  | {
      readonly step: 'adopt'
      /** Name of the response header that the worker's id is in, in lower case. */
      readonly header: string
      /** Takes the id that the worker chose; `false`: it is not to be had. */
      take(id: string, session: Session): boolean
    }
  | {
      readonly step: 'keep' | 'end'
      readonly header: string
      /** The id that the worker chose for the session. */
      readonly id: string
    }

/** Longest id that is looked at, signature included, whatever the pattern allows. */
const maxId = 1024

/**
 * Finds out whose request it is: the id by the sources, its signature, then the principal. Makes no promise unless a source
 * or the authoriser does.
 */
export class Identifier {
  readonly #settings: IdentitySettings
  readonly #idPattern: RegExp
  readonly #adoptions = new Adoptions()

  constructor(settings: IdentitySettings) {
    this.#settings = settings
    const { source, flags } = settings.idPattern
    // A global or sticky pattern would carry state from one request to the next.
    this.#idPattern = new RegExp(source, flags.replace(/[gy]/g, ''))
  }

  /** @throws what a request without a proper identity is answered with. */
  identify(req: IncomingMessage, under: BasedTarget): Identity | Promise<Identity> {
    const { path: target } = under
    let found: SessionIdResult | Promise<SessionIdResult>
    try {
      found = ask(this.#settings.sources, req, target, 0)
    } catch (error) {
      throw toHookRefusal(error)
    }
    if (!isPromise(found)) return this.#authorize(req, under, this.#read(found, target))
    return settled(found).then((later) => this.#authorize(req, under, this.#read(later, target)))
  }

  #read(found: SessionIdResult, target: string): Claim {
    if (found === undefined || found === null) return this.#unnamed(target, '')
    const match = typeof found === 'string' ? { id: found } : found
    const { target: seen = target, prefix = '' } = match
    // An empty one is how sources tell of what they cannot read: nobody has forged anything then.
    const isReadable = typeof match.id === 'string' && match.id !== '' && match.id.length <= maxId
    if (!isReadable) throw new Refusal('SESSION_ID_INVALID')
    const { signer, forged } = this.#settings
    const id = signer === undefined ? match.id : signer.verify(match.id)
    if (id === undefined) {
      if (forged === 'refuse') throw new Refusal('SESSION_ID_FORGED', { headers: forgedChallenge })
      return { ...this.#unnamed(seen, prefix), isForged: true }
    }
    if (!this.#idPattern.test(id)) throw new Refusal('SESSION_ID_INVALID')
    return { id, target: seen, prefix }
  }

  /** No session is named: the gateway or the worker is to name one, or it is a mistake. */
  #unnamed(target: string, prefix: string): Claim {
    const { issue, adopt } = this.#settings
    if (issue === undefined && adopt === undefined) throw new Refusal('SESSION_ID_MISSING')
    return { id: undefined, target, prefix }
  }

  #authorize(req: IncomingMessage, under: BasedTarget, claim: Claim): Identity | Promise<Identity> {
    const { authorize } = this.#settings
    if (authorize === undefined) return this.#resolve(req, under, claim, undefined)
    let found: ReturnType<typeof authorize>
    try {
      found = authorize(req, under.path)
    } catch (error) {
      throw toHookRefusal(error)
    }
    if (!isPromise(found)) return this.#resolve(req, under, claim, this.#principal(found))
    return settled(found).then((later) => this.#resolve(req, under, claim, this.#principal(later)))
  }

  #principal(found: unknown): string {
    if (isPrincipal(found)) return found
    if (found === undefined || found === null) {
      const challenge = this.#settings.authorize?.challenge ?? 'Bearer'
      throw new Refusal('UNAUTHORIZED', { headers: ['WWW-Authenticate', challenge] })
    }
    throw new Refusal('INTERNAL_ERROR', {
      cause: new Error(`authorize resolved to something other than a principal of 1 to ${maxPrincipal} characters`),
    })
  }

  #resolve(req: IncomingMessage, { base }: BasedTarget, claim: Claim, principal: string | undefined): Identity {
    const { id, target, prefix } = claim
    const { adopt, issue, issuesIn, signer } = this.#settings
    if (adopt !== undefined) return this.#adopt(req, claim, principal, adopt)
    const name = id ?? randomId()
    const issued = id === undefined ? issue?.(req, signer?.sign(name) ?? name, base) : undefined
    const sessionId = sessionKey(principal, name)
    const disowned = claim.isForged === true ? this.#disown(req) : undefined
    return { sessionId, target, prefix, principal, disowned, issued, issuesIn, adoption: undefined }
  }

  /** A worker must not be told by a stranger of a session whose id that one made up. */
  #disown({ headers }: IncomingMessage): Replacements {
    const disowned: Record<string, string | undefined> = {}
    let { cookie } = headers
    for (const { carrier } of this.#settings.sources) {
      if (carrier?.kind === 'header') disowned[carrier.name.toLowerCase()] = undefined
      else if (carrier !== undefined) disowned['cookie'] = cookie = withoutCookie(carrier.name, cookie)
    }
    return disowned
  }

  #adopt(req: IncomingMessage, claim: Claim, principal: string | undefined, settings: AdoptSettings): Identity {
    const { id, target, prefix } = claim
    const adoptions = this.#adoptions
    if (id === undefined) {
      const adoption: Adoption = {
        step: 'adopt',
        header: settings.header,
        take: (chosen, session) => {
          if (chosen.length > maxId || !this.#idPattern.test(chosen)) return false
          if (!adoptions.add(sessionKey(principal, chosen), session, target)) return false
          callOut(() => settings.onAdopt?.({ sessionId: session.id, id: chosen, principal }))
          return true
        },
      }
      const sessionId = sessionKey(principal, randomId())
      return { ...anonymous, sessionId, target, prefix, principal, adoption }
    }
    const key = sessionKey(principal, id)
    const session = adoptions.find(key)
    if (session === undefined) throw new Refusal('SESSION_UNKNOWN')
    const step = adoptions.isFarewell(key, req.method, target) ? 'end' : 'keep'
    const adoption: Adoption = { step, header: settings.header, id }
    return { ...anonymous, sessionId: session.id, target, prefix, principal, adoption }
  }
}

/** Where workers name sessions, the gateway gives and refuses no ids. */
const anonymous = { disowned: undefined, issued: undefined, issuesIn: undefined } as const

interface Claim {
  readonly id: string | undefined
  /** Whether one was named that nobody had signed. */
  readonly isForged?: boolean
  readonly target: string
  readonly prefix: string
}

/**
 * The pool's id of the session that `principal` calls `id`. No two principals share one: the part in front of the first
 * slash has none.
 *
 * @param principal `undefined` where there are none: then the id itself.
 */
export function sessionKey(principal: string | undefined, id: string): string {
  return principal === undefined ? id : `${encodeURIComponent(principal)}/${id}`
}

/** Asks the sources in order. */
function ask(
  sources: readonly SessionIdSource[],
  req: IncomingMessage,
  target: string,
  from: number,
): SessionIdResult | Promise<SessionIdResult> {
  for (let i = from; i < sources.length; i++) {
    const found = (sources[i] as SessionIdSource)(req, target)
    if (isPromise(found)) return found.then((later) => later ?? ask(sources, req, target, i + 1))
    if (found !== undefined && found !== null) return found
  }
  return undefined
}

async function settled<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise
  } catch (error) {
    throw toHookRefusal(error)
  }
}

function isPromise<T>(value: T | Promise<T>): value is Promise<T> {
  return typeof value === 'object' && value !== null && 'then' in value
}

/** RFC 9110 §15.5.2: a 401 names at least one challenge. */
const forgedChallenge = ['WWW-Authenticate', 'SignedSessionId'] as const
