import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { H3 } from 'h3'
import { toNodeHandler } from 'h3'
import { Connections } from '../clients/connections.ts'
import { inTurn, isPipelined } from '../clients/pipeline.ts'
import { SendLimit, type Sender } from '../clients/send-limit.ts'
import { TurnBudget } from '../clients/turn-budget.ts'
import { malformedAnswer, malformedCode } from '../malformed.ts'
import { AdminProblem, adminProblems, type AdminProblemCode } from './problem.ts'

/**
 * A server for the API, in which what Node would answer by itself is answered with a problem, too. It shares the event loop with the
 * sessions: whoever asks for much of it gets it bit by bit.
 *
 * @param sendTimeout how long a client may take nothing of an answer, in milliseconds.
 */
export function createAdminServer(app: H3, sendTimeout = 30_000): Server {
  const answer = toNodeHandler(app)
  const budget = new TurnBudget(maxPerTurn)
  const sendLimit = new SendLimit(sendTimeout)
  const begin = (req: IncomingMessage, res: ServerResponse) => {
    if (res.destroyed) return
    limitSending(sendLimit, res)
    void answer(req, res)
  }
  const take = (req: IncomingMessage, res: ServerResponse) => {
    if (budget.mayBegin()) begin(req, res)
    else budget.defer(() => begin(req, res))
  }
  // A request without a host is refused as all others are, and not by Node.
  const server = createServer({ headersTimeout, requestTimeout, requireHostHeader: false })
  const connections = new Connections(server, { budget })
  server.on('request', (req, res) => {
    connections.begin(req, res)
    if (isPipelined(res)) inTurn(req, res, { stallTimeout: sendTimeout, onStalled: () => {} }, () => take(req, res))
    else take(req, res)
  })
  server.on('clientError', (error, socket) => {
    const code = malformedCode(error)
    connections.refuse(socket as Socket, code && answerOf(code))
  })
  // RFC 9110 §9.3.6: it is for proxies.
  server.on('connect', (_req, socket) => refuse(socket, 'REQUEST_INVALID'))
  server.on('checkExpectation', (req, res) => {
    connections.begin(req, res)
    refuseExpectation(res)
  })
  return server
}

/** What a client does not take is not kept for it. An answer may take its time. */
function limitSending(limit: SendLimit, res: ServerResponse): void {
  const sender: Sender = {
    get unsent() {
      return res.writableLength
    },
    sentByAll: undefined,
    onClientStalled() {
      if (res.writableLength > 0) res.destroy()
      else limit.add(sender)
    },
  }
  limit.add(sender)
  res.once('close', () => limit.delete(sender))
}

function refuse(socket: Duplex, code: AdminProblemCode): void {
  // Node has taken its own listener off that of a CONNECT, and a client that resets it must not end the program.
  socket.on('error', () => {})
  // Nothing more is read of it: without an end of ours nothing would close it.
  socket.end(answerOf(code), () => socket.destroy())
}

/** The answer where there is no request to respond to. */
function answerOf(code: AdminProblemCode): string {
  return malformedAnswer(adminProblems[code].status, JSON.stringify(new AdminProblem(code)))
}

/** RFC 9110 §10.1.1 */
function refuseExpectation(res: ServerResponse): void {
  const problem = new AdminProblem('EXPECTATION_UNSUPPORTED')
  const headers = { 'content-type': 'application/problem+json', 'cache-control': 'no-store', connection: 'close' }
  res.writeHead(adminProblems[problem.code].status, headers).end(JSON.stringify(problem))
}

/** A request of the API is small, and whoever cannot send one in this time holds a connection for nothing. */
const headersTimeout = 10_000
const requestTimeout = 15_000

/** Some take as long as dozens of the gateway's: the metrics, or a list of some hundred workers. */
const maxPerTurn = 4
