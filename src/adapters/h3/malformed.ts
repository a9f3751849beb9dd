import { STATUS_CODES } from 'node:http'
import type { ProblemCode } from './problem.ts'
import { Refusal, problemBody } from './problem.ts'

/** The answer where there is no request to respond to. */
export function malformedAnswer(refusal: Refusal): string {
  const { status } = refusal
  const body = problemBody(refusal)
  return [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'Content-Type: application/problem+json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Cache-Control: no-store',
    `Date: ${new Date().toUTCString()}`,
    'Connection: close',
    '',
    body,
  ].join('\r\n')
}

/**
 * Codes of Node's errors; those of its parser begin with `HPE_`. It takes no minor version that it does not know for the highest that
 * it does, as RFC 9110 §2.5 would have it, and reads nothing of such a request.
 */
const codes: ReadonlyMap<unknown, ProblemCode> = new Map<unknown, ProblemCode>([
  ['HPE_HEADER_OVERFLOW', 'HEADERS_TOO_LARGE'],
  ['ERR_HTTP_REQUEST_TIMEOUT', 'CLIENT_TIMEOUT'],
  // The preface of HTTP/2 (RFC 9113 §3.4).
  ['HPE_PAUSED_H2_UPGRADE', 'HTTP_VERSION_UNSUPPORTED'],
])

/**
 * What is to be said to bytes that Node's parser could not read, or would not wait for, and told of a handshake that failed;
 * `undefined` for an error of the connection, where nobody is left to be answered.
 */
export function malformed(error: Error & { code?: unknown; reason?: unknown }): Refusal | undefined {
  // The code is also that of a line that goes on, or ends otherwise, behind the version.
  const isVersion = error.code === 'HPE_INVALID_VERSION' && error.reason === 'Invalid HTTP version'
  const known = isVersion ? 'HTTP_VERSION_UNSUPPORTED' : codes.get(error.code)
  if (known !== undefined) return new Refusal(known, { cause: error })
  // OpenSSL's: no TLS, or a handshake that the client broke off with an alert.
  return /^(?:HPE|ERR_SSL)_/.test(String(error.code)) ? new Refusal('REQUEST_MALFORMED', { cause: error }) : undefined
}
