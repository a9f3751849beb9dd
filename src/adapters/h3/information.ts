import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http'
import { responseHead } from './headers.ts'

/*
 * Informational responses (RFC 9110 §15.2): what a worker says of a request before it answers.
 */

/**
 * How many one request may have. They cost as much to take as a response does, and no time limit ends them, as each is a sign of life. A
 * worker that tells of its progress every ten seconds gets by for a quarter of an hour; one that floods keeps the gateway from others
 * for some milliseconds.
 */
export const maxInformation = 100

/**
 * How many bytes of fields they may bring the client of one request in all. By HTTP/2 nothing tells that a client does not read, and for
 * each of its streams as much could wait. Browsers make use of the first hint only.
 */
export const maxInformationSize = 64 * 1024

/**
 * Counts one more informational response to a request that has had `known`. 100 and those that are not passed on count, too.
 *
 * @returns how many that makes.
 * @throws when those are too many.
 */
export function countInformation(known: number): number {
  if (known === maxInformation) throw new Error(`The worker sent more than ${maxInformation} informational responses`)
  return known + 1
}

/** The same for a request that Node sends, whose listeners must not throw: calls `fail` with the error, once. */
export function limitInformation(request: ClientRequest, fail: (error: unknown) => void): void {
  let known = 0
  const count = () => {
    try {
      known = countInformation(known)
    } catch (error) {
      // Of what has been read already Node parses the rest all the same.
      request.off('information', count)
      fail(error)
    }
  }
  request.on('information', count)
}

/**
 * A proxy forwards 1xx responses, but not to a client that is older than they are.
 *
 * @param room how many bytes of fields it may bring.
 * @param leftOut a field, in lower case, that they are not to have.
 * @returns how many bytes of fields it has brought.
 */
export function relayInformation(
  req: IncomingMessage,
  res: ServerResponse,
  status: number,
  raw: readonly Buffer[],
  room: number,
  leftOut: string | undefined,
): number {
  if (req.httpVersionMajor === 1 && req.httpVersionMinor === 0) return 0
  // They are not flow-controlled: for a client that does not read, any number of them would pile up.
  if (res.socket?.writableNeedDrain !== false) return 0
  if (status === 102) res.writeProcessing()
  const size = raw.reduce((sum, { length }) => sum + length, 0)
  if (status !== 103 || size > room) return 0
  try {
    res.writeEarlyHints(hintsOf(raw, leftOut))
  } catch {
    // Node refuses fields that it cannot write. A hint may be left out.
  }
  return size
}

function hintsOf(raw: readonly Buffer[], leftOut: string | undefined): Record<string, string | string[]> {
  const { headers } = responseHead(raw, 103, false, (location) => location)
  const hints: Record<string, string | string[]> = Object.create(null)
  for (let i = 0; i < headers.length; i += 2) {
    const name = (headers[i] as string).toLowerCase()
    const value = headers[i + 1] as string
    if (name === leftOut || (name === 'link' && !isLink(value))) continue
    const known = hints[name]
    if (known === undefined) hints[name] = value
    else if (typeof known === 'string') hints[name] = [known, value]
    else known.push(value)
  }
  return hints
}

/**
 * Whether Node takes a value for a `Link`. Not asked of Node itself, whose pattern tries each `=` in two ways: forty parameters that end in
 * what it refuses would keep it, and all sessions with it, for days.
 */
function isLink(value: string): boolean {
  return /^<[^>]*>(?:\s*;\s*[^\s";=]+(?:=(?:"[^\s";]*"|[^\s";]*))?)*$/.test(value)
}
