import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { Duplex } from 'node:stream'
import type { H3 } from 'h3'
import { toNodeHandler } from 'h3'
import { malformedAnswer, malformedCode } from '../malformed.ts'
import { AdminProblem, adminProblems, type AdminProblemCode } from './problem.ts'

/** A server for the API, in which what Node would answer by itself is answered with a problem, too. */
export function createAdminServer(app: H3): Server {
  // A request without a host is refused as all others are, and not by Node.
  const server = createServer({ headersTimeout, requestTimeout, requireHostHeader: false }, toNodeHandler(app))
  server.on('clientError', (error, socket) => {
    const code = malformedCode(error)
    if (code === undefined) socket.destroy()
    else refuse(socket, code)
  })
  // RFC 9110 §9.3.6: it is for proxies.
  server.on('connect', (_req, socket) => refuse(socket, 'REQUEST_INVALID'))
  server.on('checkExpectation', refuseExpectation)
  return server
}

function refuse(socket: Duplex, code: AdminProblemCode): void {
  // Node has taken its own listener off that of a CONNECT, and a client that resets it must not end the program.
  socket.on('error', () => {})
  const answer = malformedAnswer(adminProblems[code].status, JSON.stringify(new AdminProblem(code)))
  // Nothing more is read of it: without an end of ours nothing would close it.
  socket.end(answer, () => socket.destroy())
}

/** RFC 9110 §10.1.1 */
function refuseExpectation(_req: IncomingMessage, res: ServerResponse): void {
  const problem = new AdminProblem('EXPECTATION_UNSUPPORTED')
  const headers = { 'content-type': 'application/problem+json', 'cache-control': 'no-store', connection: 'close' }
  res.writeHead(adminProblems[problem.code].status, headers).end(JSON.stringify(problem))
}

/** A request of the API is small, and whoever cannot send one in this time holds a connection for nothing. */
const headersTimeout = 10_000
const requestTimeout = 15_000
