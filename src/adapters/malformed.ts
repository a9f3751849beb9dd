import { STATUS_CODES } from 'node:http'

/** What both listeners say to bytes that never become a request. */
export type MalformedCode = 'REQUEST_MALFORMED' | 'HEADERS_TOO_LARGE' | 'CLIENT_TIMEOUT' | 'HTTP_VERSION_UNSUPPORTED'

/**
 * Codes of Node's errors; those of its parser begin with `HPE_`. It takes no minor version that it does not know for the highest that
 * it does, as RFC 9110 §2.5 would have it, and reads nothing of such a request.
 */
const codes: ReadonlyMap<unknown, MalformedCode> = new Map<unknown, MalformedCode>([
  ['HPE_HEADER_OVERFLOW', 'HEADERS_TOO_LARGE'],
  ['ERR_HTTP_REQUEST_TIMEOUT', 'CLIENT_TIMEOUT'],
  // The preface of HTTP/2 (RFC 9113 §3.4).
  ['HPE_PAUSED_H2_UPGRADE', 'HTTP_VERSION_UNSUPPORTED'],
])

/**
 * What is to be said to bytes that Node's parser could not read, or would not wait for, and told of a handshake that failed;
 * `undefined` for an error of the connection, where nobody is left to be answered.
 */
export function malformedCode(error: Error & { code?: unknown; reason?: unknown }): MalformedCode | undefined {
  // The code is also that of a line that goes on, or ends otherwise, behind the version.
  if (error.code === 'HPE_INVALID_VERSION' && error.reason === 'Invalid HTTP version') return 'HTTP_VERSION_UNSUPPORTED'
  const known = codes.get(error.code)
  if (known !== undefined) return known
  // OpenSSL's: no TLS, or a handshake that the client broke off with an alert.
  return /^(?:HPE|ERR_SSL)_/.test(String(error.code)) ? 'REQUEST_MALFORMED' : undefined
}

/** The answer where there is no request to respond to. */
export function malformedAnswer(status: number, problem: string): string {
  return [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'Content-Type: application/problem+json',
    `Content-Length: ${Buffer.byteLength(problem)}`,
    'Cache-Control: no-store',
    `Date: ${new Date().toUTCString()}`,
    'Connection: close',
    '',
    problem,
  ].join('\r\n')
}
