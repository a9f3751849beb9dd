import { STATUS_CODES } from 'node:http'
import type { H3Event } from 'h3'
import { H3 } from 'h3'
import type { Pool } from '../../index.ts'
import { assertAccess, assertLocal } from './access.ts'
import { readBody } from './body.ts'
import type { Operation } from './operation.ts'
import type { AdminSettings } from './options.ts'
import { AdminProblem, adminProblems } from './problem.ts'

export function createApp(operations: readonly Operation[], settings: AdminSettings): H3 {
  // What is malformed is answered here, with a problem.
  const app = new H3({ silent: true, allowMalformedURL: true })
  for (const path of new Set(operations.map(({ path }) => path))) {
    const methods = operations.filter((operation) => operation.path === path)
    app.all(path.replace('{id}', ':id'), (event) => answer(event, settings, () => call(event, settings, methods)))
  }
  return app.all('/**', (event) =>
    answer(event, settings, () => {
      throw new AdminProblem('NOT_FOUND')
    }),
  )
}

async function answer(event: H3Event, settings: AdminSettings, respond: () => Promise<Response>): Promise<Response> {
  let response: Response
  try {
    assertLocal(event, settings.hosts)
    response = await respond()
  } catch (error) {
    if (!(error instanceof AdminProblem)) settings.onError(error)
    const problem = error instanceof AdminProblem ? error : new AdminProblem('INTERNAL_ERROR')
    response = Response.json(problem, {
      status: adminProblems[problem.code].status,
      headers: { 'content-type': 'application/problem+json', ...problem.headers },
    })
  }
  const { status, headers, body } = response
  headers.set('cache-control', 'no-store')
  headers.set('x-content-type-options', 'nosniff')
  // Else h3 sends an empty reason phrase, which RFC 9112 §4 allows and people do not like to read.
  return new Response(body, { status, statusText: STATUS_CODES[status] ?? '', headers })
}

/** Checks come cheapest first, and nothing is read of a request that may not be made. */
async function call(event: H3Event, settings: AdminSettings, methods: readonly Operation[]): Promise<Response> {
  const { method } = event.req
  const operation = methods.find((candidate) => candidate.method === (method === 'HEAD' ? 'GET' : method))
  if (operation === undefined) throw new AdminProblem('METHOD_NOT_ALLOWED', { headers: { allow: allow(methods) } })
  assertAccess(event, operation.access, settings.digest)
  return operation.run({
    settings,
    id: decode(event.context.params?.['id'] ?? ''),
    body: operation.body && (await readBody(event.req, operation.body)),
    get pool() {
      return poolOf(settings)
    },
  })
}

function poolOf(settings: AdminSettings): Pool {
  const pool = settings.pool()
  if (pool === undefined) throw new AdminProblem('POOL_STARTING')
  return pool
}

/** RFC 9110 §10.2.1 */
function allow(methods: readonly Operation[]): string {
  return methods.flatMap(({ method }) => (method === 'GET' ? ['GET', 'HEAD'] : [method])).join(', ')
}

/** h3 decodes what need not be encoded and leaves the rest. */
function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new AdminProblem('REQUEST_INVALID')
  }
}
