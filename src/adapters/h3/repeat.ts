import type { IncomingMessage } from 'node:http'

/*
 * A worker may close a keep-alive connection just as a request is on its way. What may be sent again then, and what must not go on
 * such a connection in the first place.
 */

/**
 * Longest time that a connection to the worker may have been idle to be used for a request that cannot be repeated, in
 * milliseconds. Servers close idle ones after some seconds, and may do so just as the request is on its way.
 */
export const maxIdleOnce = 1_000

/** RFC 9110 §9.2.2: whether to do it twice is to do it once. */
export function isIdempotent({ method }: IncomingMessage): boolean {
  return idempotent.has(method ?? '')
}

const idempotent = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE'])

/** Whether the connection is gone, and not a time limit over or a message refused. */
export function isConnectionLoss(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown }
  return code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || code === 'EPIPE'
}
