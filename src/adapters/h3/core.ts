import type { IncomingMessage } from 'node:http'
import type { Pool } from '../../index.ts'
import { TurnBudget } from '../clients/turn-budget.ts'
import { Heartbeat } from './heartbeat.ts'
import { Identifier } from './identity/identify.ts'
import { callOut, observationOf } from './observe.ts'
import type { GatewayFailure, Refusal } from './problem.ts'
import { toRefusal } from './problem.ts'
import { SendLimit } from '../clients/send-limit.ts'
import { SessionWatch } from './session-watch.ts'
import type { Settings } from './settings.ts'
import { Upstreams } from './upstream.ts'

/** What every request and every upgrade of one gateway shares. */
export interface Core {
  readonly pool: Pool
  readonly settings: Settings
  readonly upstreams: Upstreams
  readonly underway: Underway
  readonly heartbeat: Heartbeat
  readonly sendLimit: SendLimit
  readonly turnBudget: TurnBudget
  readonly sessionWatch: SessionWatch
  readonly identifier: Identifier
  /** Tells `onError` of what was refused before there was a request. */
  reportMalformed(refusal: Refusal): void
  /** Tells `onError` of a failure, with the cause that the client is not shown, and returns what the client is shown. */
  report(req: IncomingMessage, error: unknown, about: About): Refusal
}

/** What is being served now. */
export interface Underway {
  /** Requests from their head to the end of their response. */
  requests: number
  /** WebSockets, and handshakes on their way to be some. */
  webSockets: number
}

interface About {
  readonly sessionId?: string | undefined
  /** Whether the response had begun, so that its connection is cut. */
  readonly cut: boolean
}

export function createCore(pool: Pool, settings: Settings): Core {
  return {
    pool,
    settings,
    upstreams: new Upstreams(settings.upstream, settings.client.requestsPerSession),
    heartbeat: new Heartbeat(settings.pingInterval),
    sendLimit: new SendLimit(settings.client.sendTimeout),
    turnBudget: new TurnBudget(),
    sessionWatch: new SessionWatch(),
    underway: { requests: 0, webSockets: 0 },
    identifier: new Identifier(settings),
    reportMalformed({ code, status, cause }) {
      const nothing = { sessionId: undefined, method: undefined, target: undefined }
      callOut(() => settings.onError?.({ code, status, cause, ...nothing }))
    },
    report(req, error, { sessionId, cut }) {
      const refusal = toRefusal(error)
      if (cut) observationOf(req)?.cutFor(refusal)
      else observationOf(req)?.refused(refusal)
      if (settings.onError === undefined) return refusal
      const failure: GatewayFailure = {
        code: refusal.code,
        status: cut ? undefined : refusal.status,
        sessionId,
        method: req.method,
        target: req.url,
        cause: refusal.cause ?? error,
      }
      callOut(() => settings.onError?.(failure))
      return refusal
    },
  }
}
