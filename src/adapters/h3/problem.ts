import type { ServerResponse } from 'node:http'
import type { ErrorCode } from '../../index.ts'
import { isCorralError } from '../../index.ts'

/** Every code that the gateway answers with: the pool's own, and those that only a gateway can have. Stable. */
export type ProblemCode =
  // Less those that only the making of a pool or a gateway can have.
  | Exclude<ErrorCode, 'INVALID_OPTION' | 'PEER_MISSING' | 'SANDBOX_UNAVAILABLE' | 'STATE_DIRECTORY_IN_USE'>
  | 'SESSION_ID_MISSING'
  | 'SESSION_ID_INVALID'
  | 'SESSION_ID_FORGED'
  | 'SESSION_UNKNOWN'
  | 'UNAUTHORIZED'
  | 'REQUEST_INVALID'
  | 'REQUEST_MALFORMED'
  | 'HEADERS_TOO_LARGE'
  | 'HTTP_VERSION_UNSUPPORTED'
  | 'EXPECTATION_UNSUPPORTED'
  | 'TRANSFER_CODING_UNSUPPORTED'
  | 'UPGRADE_INVALID'
  | 'REQUEST_REFUSED'
  | 'TARGET_TOO_LONG'
  | 'SESSION_BUSY'
  | 'CLIENT_TIMEOUT'
  | 'UPSTREAM_FAILED'
  | 'UPSTREAM_TIMEOUT'
  | 'INTERNAL_ERROR'

/** How the gateway answers one {@link ProblemCode}. */
export interface Problem {
  /** HTTP status, of plain requests and of refused upgrades. */
  readonly status: number
  /** The code to close a WebSocket with that is open already (RFC 6455 §7.4, IANA registry). */
  readonly close: number
  /** Whether trying again in a moment may help: the answer carries `Retry-After`. */
  readonly retry: boolean
  readonly title: string
}

/** The one table of code → HTTP status and WebSocket close code. */
export const problems: Readonly<Record<ProblemCode, Problem>> = {
  SESSION_ID_MISSING: { status: 400, close: 1008, retry: false, title: 'The request names no session' },
  SESSION_ID_INVALID: { status: 400, close: 1008, retry: false, title: 'The session id is malformed' },
  SESSION_ID_FORGED: {
    status: 401,
    close: 1008,
    retry: false,
    title: 'The session id is not one that was issued here',
  },
  SESSION_UNKNOWN: { status: 404, close: 1008, retry: false, title: 'There is no such session' },
  UNAUTHORIZED: { status: 401, close: 1008, retry: false, title: 'The request is not authorised' },
  REQUEST_INVALID: { status: 400, close: 1008, retry: false, title: 'The request cannot be forwarded' },
  REQUEST_MALFORMED: { status: 400, close: 1008, retry: false, title: 'The request is not HTTP' },
  HEADERS_TOO_LARGE: { status: 431, close: 1008, retry: false, title: 'The head of the request is too large' },
  EXPECTATION_UNSUPPORTED: {
    status: 417,
    close: 1008,
    retry: false,
    title: 'The request expects something besides 100-continue',
  },
  HTTP_VERSION_UNSUPPORTED: {
    status: 505,
    close: 1008,
    retry: false,
    title: 'The request is not HTTP/1.1 or HTTP/1.0',
  },
  TRANSFER_CODING_UNSUPPORTED: {
    status: 501,
    close: 1008,
    retry: false,
    title: 'The request has a transfer coding besides chunked',
  },
  UPGRADE_INVALID: { status: 400, close: 1002, retry: false, title: 'The request is not a WebSocket handshake' },
  REQUEST_REFUSED: { status: 403, close: 1008, retry: false, title: 'The request was refused' },
  TARGET_TOO_LONG: { status: 414, close: 1008, retry: false, title: 'The request target is too long' },
  SESSION_BUSY: { status: 429, close: 1013, retry: true, title: 'Too many requests of the session are under way' },
  CLIENT_TIMEOUT: { status: 408, close: 1008, retry: false, title: 'The client took too long' },
  QUEUE_FULL: { status: 503, close: 1013, retry: true, title: 'Too many sessions wait for a worker' },
  TENANT_LIMIT: { status: 429, close: 1013, retry: true, title: 'Too many sessions are open for the same client' },
  HOST_PRESSURE: { status: 503, close: 1013, retry: true, title: 'The server has too much to do' },
  ACQUIRE_TIMEOUT: { status: 503, close: 1013, retry: true, title: 'No worker became free in time' },
  WORKER_START_FAILED: { status: 503, close: 1013, retry: true, title: 'No worker could be started' },
  WORKER_START_TIMEOUT: { status: 503, close: 1013, retry: true, title: 'No worker became ready in time' },
  POOL_DRAINING: { status: 503, close: 1012, retry: false, title: 'The server is shutting down' },
  POOL_CLOSED: { status: 503, close: 1012, retry: false, title: 'The server is shutting down' },
  SESSION_LOST: { status: 502, close: 1011, retry: false, title: 'The session was lost: its worker died' },
  SESSION_ENDED: { status: 502, close: 1001, retry: false, title: 'The session was ended' },
  UPSTREAM_FAILED: { status: 502, close: 1014, retry: false, title: 'The worker did not answer properly' },
  UPSTREAM_TIMEOUT: { status: 504, close: 1014, retry: false, title: 'The worker did not answer in time' },
  INTERNAL_ERROR: { status: 500, close: 1011, retry: false, title: 'The gateway failed' },
}

/** What {@link GatewayOptions.onError} is told about a request that the gateway refused, failed or cut. */
export interface GatewayFailure {
  readonly code: ProblemCode
  /** The status that was answered; `undefined` when the response had begun and its connection was cut. */
  readonly status: number | undefined
  readonly sessionId: string | undefined
  /** `undefined` when it was refused before there was a request: what is not HTTP, too large, or did not come in time. */
  readonly method: string | undefined
  /** The raw request target. */
  readonly target: string | undefined
  /** What happened, with everything that the client is not shown. */
  readonly cause: unknown
}

/** Carries a code of the table to the place that answers. Never leaves the gateway. */
export class Refusal extends Error {
  readonly code: ProblemCode
  readonly status: number
  /** Header fields of the answer, names and values in turn. */
  readonly headers: readonly string[]

  constructor(code: ProblemCode, options?: ErrorOptions & { status?: number; headers?: readonly string[] }) {
    super(problems[code].title, options)
    this.name = 'Refusal'
    this.code = code
    this.status = options?.status ?? problems[code].status
    this.headers = options?.headers ?? []
  }
}

/** What an error of the pool, of the worker's connection or of a session id function is answered with. */
export function toRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error
  if (isCorralError(error)) {
    // The one option of `acquire` that a client controls is the id: the pool is stricter about it than `idPattern`.
    if (error.code === 'INVALID_OPTION') return new Refusal('SESSION_ID_INVALID', { cause: error })
    // A newer copy of the package may know codes that this one does not.
    if (isProblemCode(error.code)) return new Refusal(error.code, { cause: error })
  }
  return new Refusal('INTERNAL_ERROR', { cause: error })
}

function isProblemCode(code: string): code is ProblemCode {
  return Object.hasOwn(problems, code)
}

/**
 * What a thrown value of a session id function or an authoriser is answered with. An error with a `status` from 400 to 499,
 * such as h3's `HTTPError`, decides the status. Its message stays inside.
 */
export function toHookRefusal(error: unknown): Refusal {
  const { status, headers } = (error ?? {}) as { status?: unknown; headers?: unknown }
  if (typeof status !== 'number' || !Number.isInteger(status) || status < 400 || status > 499) return toRefusal(error)
  const given = headers instanceof Headers ? headers.get('www-authenticate') : null
  // RFC 9110 §15.5.2: a 401 names at least one challenge.
  const challenge = given ?? (status === 401 ? 'Bearer' : null)
  return new Refusal('REQUEST_REFUSED', {
    cause: error,
    status,
    headers: challenge === null ? [] : ['WWW-Authenticate', challenge],
  })
}

/**
 * What a client is shown (RFC 9457): what the table holds and nothing else, so that no address, path, stack or worker output
 * can reach it.
 */
export function problemBody({ code, status }: Refusal): string {
  const type = `urn:corral:problem:${code.toLowerCase().replaceAll('_', '-')}`
  return JSON.stringify({ type, title: problems[code].title, status, code })
}

/** Answers with `application/problem+json`. */
export function sendProblem(res: ServerResponse, refusal: Refusal, retryAfter: number): void {
  const { retry } = problems[refusal.code]
  const { status } = refusal
  const body = problemBody(refusal)
  const headers = [
    'Content-Type',
    'application/problem+json',
    'Content-Length',
    String(Buffer.byteLength(body)),
    'Cache-Control',
    'no-store',
    ...refusal.headers,
  ]
  // RFC 9110 §10.2.3: whole seconds.
  if (retry) headers.push('Retry-After', String(Math.ceil(retryAfter / 1000)))
  for (const name of res.getHeaderNames()) res.removeHeader(name)
  res.writeHead(status, headers)
  // RFC 9110 §9.3.2: the answer to HEAD has the header fields of GET and no content.
  res.end(res.req.method === 'HEAD' ? undefined : body)
}
