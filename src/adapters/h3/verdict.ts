import { errors } from 'undici'
import { Refusal } from './problem.ts'
import type { Upstream } from './upstream.ts'

/**
 * What a failure on the way to the worker is answered with. A connection to a dying worker breaks a moment before the pool
 * knows that the worker died. Waiting for that moment names the cause, and a client that tries again at once does not meet
 * the dead worker again.
 */
export async function judge(error: unknown, upstream: Upstream): Promise<Refusal> {
  if (error instanceof Refusal) return error
  const { signal } = upstream.session
  if (isTimeout(error)) return new Refusal('UPSTREAM_TIMEOUT', { cause: error })
  // What undici, or Node for upgrades, refuses to send: Node's own parser lets it pass.
  if (isUnsendable(error)) return new Refusal('REQUEST_INVALID', { cause: error })
  if (!signal.aborted) await upstream.over(isUnreachable(error) ? burialNotice : deathNotice)
  if (signal.aborted) return sessionRefusal(signal.reason)
  const told = isUnasked(error) ? unasked : isMismatched(error) ? mismatched : undefined
  return new Refusal('UPSTREAM_FAILED', { cause: told === undefined ? error : new Error(told, { cause: error }) })
}

/** How long the news of a worker's death may take from its sockets to the pool. */
export const deathNotice = 250
/** The same where the worker's address is not listened on any more: either it is dead for sure, or it never answers. */
const burialNotice = 1_000

/** Whether nobody listens at the worker's address. */
function isUnreachable(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown }
  return code === 'ECONNREFUSED' || code === 'ENOENT'
}

function sessionRefusal(reason: unknown): Refusal {
  const code = (reason as { code?: unknown } | undefined)?.code
  return new Refusal(code === 'SESSION_ENDED' ? code : 'SESSION_LOST', { cause: reason })
}

function isTimeout(error: unknown): boolean {
  return (
    error instanceof errors.HeadersTimeoutError ||
    error instanceof errors.BodyTimeoutError ||
    error instanceof errors.ConnectTimeoutError
  )
}

function isUnsendable(error: unknown): boolean {
  return error instanceof errors.InvalidArgumentError || error instanceof errors.NotSupportedError
}

const mismatched =
  'The worker sent a Content-Length that is not that of its body, that comes twice or beside a Transfer-Encoding, or is no number'

/** What undici says of all of these, as it takes them for a length of another size. */
function isMismatched(error: unknown): boolean {
  return error instanceof errors.ResponseContentLengthMismatchError
}

const unasked = 'The worker sent 100 Continue or switched protocols, which nobody had asked for'

/** What undici has only words of its own for, or none, within an exchange. */
function isUnasked(error: unknown): boolean {
  const { code, message = '' } = (error ?? {}) as { code?: unknown; message?: string }
  return code === 'ERR_ASSERTION' || (code === 'UND_ERR_SOCKET' && /^bad (?:response|upgrade)$/.test(message))
}
