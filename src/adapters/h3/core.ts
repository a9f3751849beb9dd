import type { IncomingMessage } from 'node:http'
import type { Pool } from '../../index.ts'
import type { GatewayFailure, Refusal } from './problem.ts'
import { toRefusal } from './problem.ts'
import type { Settings } from './options.ts'
import type { SessionRequest } from './session-id.ts'
import { createSessionIdReader } from './session-id.ts'
import { Upstreams } from './upstream.ts'

/** What every request and every upgrade of one gateway shares. */
export interface Core {
  readonly pool: Pool
  readonly settings: Settings
  readonly upstreams: Upstreams
  readSession(req: IncomingMessage, target: string): SessionRequest | Promise<SessionRequest>
  /** Tells `onError` of a failure, with the cause that the client is not shown, and returns what the client is shown. */
  report(req: IncomingMessage, error: unknown, about: About): Refusal
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
    upstreams: new Upstreams(settings.upstream),
    readSession: createSessionIdReader(settings.sessionId, settings.idPattern),
    report(req, error, { sessionId, cut }) {
      const refusal = toRefusal(error)
      const failure: GatewayFailure = {
        code: refusal.code,
        status: cut ? undefined : refusal.status,
        sessionId,
        method: req.method,
        target: req.url,
        cause: refusal.cause ?? error,
      }
      try {
        settings.onError?.(failure)
      } catch (thrown) {
        // The request is not to blame, and nobody is to miss it.
        queueMicrotask(() => {
          throw thrown
        })
      }
      return refusal
    },
  }
}
