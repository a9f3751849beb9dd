import type { IncomingMessage } from 'node:http'
import type { Lease } from '../../index.ts'
import { type Reached, reachedBy } from './forwarded.ts'
import type { Replacements } from './headers.ts'
import { clientAddress } from './tenant.ts'
import type { ProblemCode, Refusal } from './problem.ts'

/** What {@link GatewayOptions.onRequest} is told about a request, or a WebSocket, that is over. */
export interface RequestRecord {
  readonly kind: 'http' | 'websocket'
  /**
   * `answered`: the worker's response was sent to its end, or the WebSocket was joined and closed by one of its ends.
   * `refused`: the gateway answered, with `code`. `cut`: what had begun was broken off, because of `code`. `left`: the
   * client was gone before the end.
   */
  readonly outcome: 'answered' | 'refused' | 'cut' | 'left'
  /** The status that was sent; `undefined` when the client left before any. */
  readonly status: number | undefined
  readonly code: ProblemCode | undefined
  readonly method: string | undefined
  /** The raw request target, query included, as the client sent it. */
  readonly target: string | undefined
  /** The pool's id of the session; `undefined` when the request was refused before it was known. */
  readonly sessionId: string | undefined
  /** On whose behalf it came; `undefined` where nobody is authorised, or when it was refused before that was known. */
  readonly principal: string | undefined
  /** The client's address; behind trusted proxies, the one that they saw. */
  readonly address: string | undefined
  /** The worker that the request was sent to; `undefined` when it never got one. */
  readonly workerId: string | undefined
  /** When the request's head had been read, in milliseconds since the epoch. */
  readonly startedAt: number
  /** From then until it had its worker, in milliseconds; `undefined` when it never got one. */
  readonly wait: number | undefined
  /** From then until its end, in milliseconds. */
  readonly duration: number
  /** Bytes of content from the client, heads and framing left out; of a WebSocket all that follow the handshake. */
  readonly bytesIn: number
  /** Bytes of content to the client. */
  readonly bytesOut: number
}

/** Follows one request, such as for distributed tracing. */
export interface RequestTrace {
  /**
   * Header fields, names in lower case, that the worker gets in place of the client's of the same names; `undefined` leaves the
   * client's out.
   *
   * @default none
   */
  readonly headers?: Readonly<Record<string, string | undefined>> | undefined
  /** The request has got its worker. */
  leased?(lease: Lease): void
  /** The request is over. */
  end(record: RequestRecord): void
}

/** Who is told about requests; made only where somebody is. */
export interface Observers {
  /** See {@link clientAddress} and {@link reachedBy}. */
  readonly proxies: number
  readonly onRequest: ((record: RequestRecord) => void) | undefined
  readonly trace: ((req: IncomingMessage, reached: Reached) => RequestTrace | undefined) | undefined
}

/** One request that somebody wants to hear of, from its head to its end. */
export class Observation {
  readonly trace: RequestTrace | undefined
  status: number | undefined
  bytesIn = 0
  bytesOut = 0
  readonly #kind: RequestRecord['kind']
  readonly #req: IncomingMessage
  readonly #observers: Observers
  readonly #address: string | undefined
  readonly #startedAt = Date.now()
  readonly #start = performance.now()
  #sessionId: string | undefined
  #principal: string | undefined
  #workerId: string | undefined
  #wait: number | undefined
  #code: ProblemCode | undefined
  #outcome: RequestRecord['outcome'] | undefined
  /** Whether the reason of a cut is still to come. */
  #owesReason = false
  #duration: number | undefined

  constructor(kind: RequestRecord['kind'], req: IncomingMessage, observers: Observers) {
    this.#kind = kind
    this.#req = req
    this.#observers = observers
    // The socket forgets it once it is closed.
    this.#address = clientAddress(req, observers.proxies)
    this.trace = callOut(() => observers.trace?.(req, reachedBy(req, observers.proxies)))
  }

  identified({ sessionId, principal }: { readonly sessionId: string; readonly principal: string | undefined }): void {
    this.#sessionId = sessionId
    this.#principal = principal
  }

  leased(lease: Lease): void {
    this.#workerId = lease.worker.id
    this.#wait = performance.now() - this.#start
    if (this.trace?.leased !== undefined) callOut(() => this.trace?.leased?.(lease))
  }

  answered(): void {
    this.#outcome ??= 'answered'
  }

  refused({ code, status }: Refusal): void {
    this.#outcome ??= 'refused'
    this.#code = code
    this.status = status
  }

  /** What had begun is being broken off; {@link cutFor} tells why, maybe only after {@link end}. */
  cut(): void {
    if (this.#outcome !== undefined) return
    this.#outcome = 'cut'
    this.#owesReason = true
  }

  cutFor({ code }: Refusal): void {
    this.#outcome ??= 'cut'
    this.#code ??= code
    this.#owesReason = false
    if (this.#duration !== undefined) this.#tell(this.#duration)
  }

  /** The request is over: nothing more will be sent. */
  end(): void {
    if (this.#duration !== undefined) return
    this.#duration = performance.now() - this.#start
    this.#outcome ??= 'left'
    if (!this.#owesReason) this.#tell(this.#duration)
  }

  #tell(duration: number): void {
    const { method, url: target } = this.#req
    const record: RequestRecord = {
      kind: this.#kind,
      outcome: this.#outcome ?? 'left',
      status: this.status,
      code: this.#code,
      method,
      target,
      sessionId: this.#sessionId,
      principal: this.#principal,
      address: this.#address,
      workerId: this.#workerId,
      startedAt: this.#startedAt,
      wait: this.#wait,
      duration,
      bytesIn: this.bytesIn,
      bytesOut: this.bytesOut,
    }
    callOut(() => this.trace?.end(record))
    callOut(() => this.#observers.onRequest?.(record))
  }
}

const kObservation = Symbol('corral.observation')

type Observed = IncomingMessage & { [kObservation]?: Observation }

/** Begins to observe a request, if anybody wants to hear of it. */
export function observe(kind: RequestRecord['kind'], req: Observed, observers: Observers): Observation | undefined {
  if (observers.onRequest === undefined && observers.trace === undefined) return undefined
  const observation = new Observation(kind, req, observers)
  req[kObservation] = observation
  return observation
}

export function observationOf(req: Observed): Observation | undefined {
  return req[kObservation]
}

/** The request's fields that do not go to the worker as they came. */
export function replacements(
  { consumed }: { readonly consumed: Replacements | undefined },
  { disowned }: { readonly disowned: Replacements | undefined },
  seen: Observation | undefined,
): Replacements | undefined {
  const traced = seen?.trace?.headers
  if (disowned !== undefined) return { ...traced, ...consumed, ...disowned }
  return consumed === undefined || traced === undefined ? (consumed ?? traced) : { ...consumed, ...traced }
}

/** What an observer throws is an uncaught exception: the request is not to blame, and nobody is to miss it. */
export function callOut<T>(call: () => T): T | undefined {
  try {
    return call()
  } catch (thrown) {
    queueMicrotask(() => {
      throw thrown
    })
    return undefined
  }
}
