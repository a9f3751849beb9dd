import type { IncomingMessage } from 'node:http'
import type { Lease, Pool } from '../../index.ts'
import type { Core } from './core.ts'
import type { Replacements } from './headers.ts'
import type { Field } from './identity/issue.ts'
import type { Adoption, Identity } from './identity/identify.ts'
import { Refusal } from './problem.ts'
import type { BasedTarget } from './target.ts'
import { clientAddress, tenantOf } from './tenant.ts'

/** What is to be forwarded: the request of a session, its target taken apart. */
export class Forward {
  readonly sessionId: string
  readonly principal: string | undefined
  /** The target that the worker sees. */
  readonly target: string
  /** What was cut off the target. */
  readonly prefix: string
  readonly authority: string | undefined
  /** What the worker gets in place of fields whose ids were refused. */
  readonly disowned: Replacements | undefined
  /**
   * Response header, in lower case, that tells clients the ids of their sessions; `undefined`: none does. Heads alone may carry
   * it: what comes before them, or behind, nobody has looked at.
   */
  readonly idField: string | undefined
  readonly #issued: Field | undefined
  readonly #issuesIn: string | undefined
  readonly #adoption: Adoption | undefined
  /** Whether the session ends with the request: nobody has been told its name, or the client has said goodbye. */
  #endsSession: boolean
  /** Whether the client waits for a `100 Continue` that is ours to send. */
  readonly mustContinue: boolean

  constructor(identity: Identity, { base, authority }: BasedTarget, mustContinue: boolean) {
    this.sessionId = identity.sessionId
    this.principal = identity.principal
    this.target = identity.target
    this.prefix = base + identity.prefix
    this.authority = authority
    this.disowned = identity.disowned
    this.idField = identity.adoption?.header ?? identity.issuesIn
    this.#issued = identity.issued
    this.#issuesIn = identity.issuesIn
    this.#adoption = identity.adoption
    this.#endsSession = identity.adoption?.step === 'adopt' || identity.issued !== undefined
    this.mustContinue = mustContinue
  }

  /**
   * A lease on the request's session, after waiting for a worker if need be.
   *
   * @throws `SESSION_UNKNOWN` when the session had to be live, `SESSION_BUSY` when too many wait for it, and whatever the pool
   * refuses with.
   */
  async wait({ pool, upstreams, settings }: Core, req: IncomingMessage, signal: AbortSignal): Promise<Lease> {
    if (this.#adoption !== undefined && this.#adoption.step !== 'adopt') {
      const lease = pool.tryAcquire(this.sessionId)
      if (lease === undefined) throw new Refusal('SESSION_UNKNOWN')
      return lease
    }
    const tenant = tenantOf(this.principal, clientAddress(req, settings.proxies))
    return upstreams.wait(this.sessionId, () => pool.acquire(this.sessionId, { signal, tenant }))
  }

  /**
   * The worker has answered: what the gateway adds goes to `headers`, names and values in turn, and what it learns is kept.
   *
   * @throws `UPSTREAM_FAILED` when the worker chose an id that it cannot have.
   */
  answered(status: number, headers: string[], { session }: Lease): void {
    if (this.#issuesIn !== undefined) leaveOut(headers, (name) => name === this.#issuesIn)
    if (this.#issued !== undefined) {
      this.#endsSession = false
      headers.push(...this.#issued)
      keepPrivate(headers)
    }
    const adoption = this.#adoption
    if (adoption === undefined) return
    // Of other refusals, such as 405, the session has to survive.
    if (adoption.step === 'end') this.#endsSession = status < 400 || status === 404 || status === 410
    const chosen = valuesOf(adoption.header, headers)
    const [id] = chosen
    // Without an id of the worker's a new session was for this one request.
    if (id === undefined) return
    // Of two ids the client would take the other one, or both; by one that comes later it would find no session, or another.
    const isGood = chosen.size === 1 && (adoption.step === 'adopt' ? adoption.take(id, session) : id === adoption.id)
    if (!isGood) {
      const cause = new Error('The worker chose several session ids, a malformed, a taken or a later one')
      throw new Refusal('UPSTREAM_FAILED', { cause })
    }
    if (adoption.step === 'adopt') this.#endsSession = false
    keepPrivate(headers)
  }

  /** Gives the lease back when the request is over, answered or not. */
  release(lease: Lease, pool: Pool): void {
    lease.release()
    if (this.#endsSession) void pool.end(this.sessionId)
  }
}

/**
 * RFC 9111 §5.2.2.7: a cache that is shared would hand the id that comes with a response to everybody. Fields for some of those
 * caches alone would have more weight (RFC 9213 §2.2).
 */
function keepPrivate(headers: string[]): void {
  leaveOut(headers, (name) => name.endsWith('-cache-control') || name === 'surrogate-control')
  headers.push('Cache-Control', 'private')
}

/** Takes fields out of a list of names and values in turn. @param isMeant asked by the name in lower case. */
function leaveOut(headers: string[], isMeant: (name: string) => boolean): void {
  for (let i = headers.length - 2; i >= 0; i -= 2) if (isMeant(headers[i]?.toLowerCase() ?? '')) headers.splice(i, 2)
}

/** What a field, in lower case, says in a list of names and values in turn; each value once. */
function valuesOf(field: string, headers: readonly string[]): Set<string> {
  return new Set(headers.filter((_value, i) => i % 2 === 1 && headers[i - 1]?.toLowerCase() === field))
}
