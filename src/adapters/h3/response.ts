import { STATUS_CODES } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { resetConnection } from '../clients/reset.ts'
import type { Sender } from '../clients/send-limit.ts'
import { discard } from './body.ts'
import type { Core } from './core.ts'
import { http2Request, resetStream, sentByAll } from './http2.ts'
import type { ProblemCode } from './problem.ts'
import { sendProblem } from './problem.ts'
import { clientStalled } from './upstream.ts'

/** Answers a request with a problem and leaves its connection in step, or closed. */
export function refuse(
  core: Core,
  req: IncomingMessage,
  res: ServerResponse,
  error: unknown,
  sessionId?: string,
): void {
  const refusal = core.report(req, error, { sessionId, cut: res.headersSent })
  if (res.headersSent) {
    res.destroy()
    return
  }
  if (res.destroyed) return
  if (outOfStep.has(refusal.code)) res.shouldKeepAlive = false
  sendProblem(res, refusal, core.settings.retryAfter)
  limitSending(core, req, res, sessionId)
  if (!req.complete) discard(req, res)
}

/** Bounds how long the last bytes of a response, which is written, wait for the client. */
export function limitSending(core: Core, req: IncomingMessage, res: ServerResponse, sessionId?: string): void {
  if (res.writableLength > 0) core.sendLimit.add(senderOf(core, req, res, sessionId))
}

/** Cuts the response when its client takes nothing for too long. */
export function senderOf(core: Core, req: IncomingMessage, res: ServerResponse, sessionId: string | undefined): Sender {
  const sender: Sender = {
    get unsent() {
      return res.writableLength
    },
    get sentByAll() {
      return sentByAll(req)
    },
    onClientStalled() {
      core.report(req, clientStalled(), { sessionId, cut: true })
      cutResponse(res, 'reset')
    },
  }
  const taken = () => core.sendLimit.delete(sender)
  res.on('drain', taken).once('finish', taken).once('close', taken)
  return sender
}

/**
 * After these nobody can be sure where the next request of the connection begins: others may have read the length of this one
 * differently (RFC 9112 §6.3, §11.2).
 */
const outOfStep: ReadonlySet<ProblemCode> = new Set([
  'REQUEST_INVALID',
  'REQUEST_MALFORMED',
  'HEADERS_TOO_LARGE',
  'HTTP_VERSION_UNSUPPORTED',
  'TRANSFER_CODING_UNSUPPORTED',
])

/** Writes the head of a worker's response. */
export function writeHead(
  req: IncomingMessage,
  res: ServerResponse,
  status: number,
  reason: string,
  headers: string[],
): void {
  const phrase = phraseOf(status, reason)
  if (http2Request(req) !== undefined) {
    // RFC 9113 §8.3.2: there is no reason phrase.
    res.writeHead(status, headers)
    return
  }
  if (res.getHeaderNames().length === 0) {
    res.writeHead(status, phrase, headers)
    return
  }
  // Something in front has staged headers of its own. Node then merges an array by overwriting, which would lose all but one
  // `Set-Cookie`.
  const seen = new Set<string>()
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string
    const lower = name.toLowerCase()
    if (seen.has(lower)) res.appendHeader(name, headers[i + 1] as string)
    else res.setHeader(name, headers[i + 1] as string)
    seen.add(lower)
  }
  res.writeHead(status, phrase)
}

export function addTrailers(req: IncomingMessage, res: ServerResponse, trailers: [string, string][]): void {
  res.addTrailers(http2Request(req) === undefined ? trailers : Object.fromEntries(trailers))
}

/**
 * Breaks a response off. Of a client that takes nothing only a reset drops what waits for it: at an end the system would keep that for
 * as long as the client lives.
 */
export function cutResponse(res: ServerResponse, connection: 'end' | 'reset'): void {
  if (resetStream(res)) return
  if (connection === 'reset') resetConnection(res.socket)
  res.destroy()
}

/**
 * undici reads the phrase as UTF-8, so that the bytes of what is not ASCII are lost, and has only the last piece of one that came in
 * several: the end of the standard one, or nothing, stands for that.
 */
function phraseOf(status: number, reason: string): string {
  const standard = STATUS_CODES[status] ?? ''
  return /^[\t\x20-\x7e]*$/.test(reason) && !standard.endsWith(reason) ? reason : standard
}

/** RFC 9112 §4. Parsers let more through. */
export function isReasonPhrase(reason: string): boolean {
  return /^[\t\x20-\x7e\x80-\xff]*$/.test(reason)
}
