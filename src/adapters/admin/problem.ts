/** Every code that the admin API answers with. Stable. */
export type AdminProblemCode = keyof typeof adminProblems

/** How each code is answered. */
export const adminProblems = {
  REQUEST_MALFORMED: { status: 400, title: 'The request is not HTTP' },
  REQUEST_INVALID: { status: 400, title: 'The request or its path is malformed' },
  BODY_INVALID: { status: 400, title: 'The body is not what this operation takes' },
  TOKEN_REQUIRED: { status: 401, title: 'This needs the token of the admin API' },
  TOKEN_NOT_CONFIGURED: { status: 403, title: 'This needs a token, and the server has none configured' },
  HOST_REFUSED: { status: 403, title: 'The host is no address, not localhost, and none that the server was told of' },
  ORIGIN_REFUSED: { status: 403, title: 'Pages of other origins are refused' },
  NOT_FOUND: { status: 404, title: 'There is nothing at this path' },
  SESSION_UNKNOWN: { status: 404, title: 'There is no live session of this id' },
  WORKER_UNKNOWN: { status: 404, title: 'There is no worker of this id' },
  METRICS_OFF: { status: 404, title: 'The server has no metrics' },
  METHOD_NOT_ALLOWED: { status: 405, title: 'The path does not take this method' },
  CLIENT_TIMEOUT: { status: 408, title: 'The client took too long' },
  BODY_TOO_LARGE: { status: 413, title: 'The body is too large' },
  BODY_TYPE_UNSUPPORTED: { status: 415, title: 'The body is not application/json' },
  EXPECTATION_UNSUPPORTED: { status: 417, title: 'The request expects something besides 100-continue' },
  HEADERS_TOO_LARGE: { status: 431, title: 'The head of the request is too large' },
  INTERNAL_ERROR: { status: 500, title: 'The admin API failed' },
  POOL_STARTING: { status: 503, title: 'The pool is starting' },
  HTTP_VERSION_UNSUPPORTED: { status: 505, title: 'The request is not HTTP/1.1 or HTTP/1.0' },
} as const satisfies Record<string, { status: number; title: string }>

interface About extends ErrorOptions {
  readonly detail?: string
  readonly headers?: Readonly<Record<string, string>>
}

/** Carries a code of the table to the place that answers. */
export class AdminProblem extends Error {
  readonly code: AdminProblemCode
  /** What is wrong with this request in particular. The client reads it: nothing internal. */
  readonly detail: string | undefined
  readonly headers: Readonly<Record<string, string>>

  constructor(code: AdminProblemCode, about: About = {}) {
    super(adminProblems[code].title, about)
    this.name = 'AdminProblem'
    this.code = code
    this.detail = about.detail
    this.headers = about.headers ?? {}
  }

  /** RFC 9457. */
  toJSON(): object {
    const { code, detail } = this
    const { status, title } = adminProblems[code]
    const type = `urn:corral:problem:${code.toLowerCase().replaceAll('_', '-')}`
    return { type, title, status, code, ...(detail !== undefined && { detail }) }
  }
}
