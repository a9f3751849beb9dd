import type { ClientRequest, IncomingMessage, InformationEvent, ServerResponse } from 'node:http'
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
 * How large their fields may be in all, as RFC 9113 §6.5.2 has it: empty ones are work, too. By HTTP/2 nothing tells that a client does not
 * read, and for each of its streams as much may wait.
 */
const maxSize = 64 * 1024

/** What a field is counted for besides its name and its value. */
const fieldOverhead = 32

/** Counts the informational responses to one request, those that are not passed on, and 100, included. */
export class InformationLimit {
  #count = 0
  #size = 0

  /**
   * @param raw names and values of the fields of one more.
   * @throws when those are too many, or too large.
   */
  add(raw: readonly { readonly length: number }[]): void {
    if (++this.#count > maxInformation) {
      throw new Error(`The worker sent more than ${maxInformation} informational responses`)
    }
    this.#size += (raw.length / 2) * fieldOverhead
    for (const { length } of raw) this.#size += length
    if (this.#size > maxSize) throw new Error(`The worker sent more than ${maxSize} bytes of informational responses`)
  }
}

/** Limits those to a request that Node sends, whose listeners must not throw: calls `fail` with the error, once. */
export function limitInformation(request: ClientRequest, fail: (error: unknown) => void): void {
  const limit = new InformationLimit()
  const add = ({ rawHeaders }: InformationEvent) => {
    try {
      limit.add(rawHeaders)
    } catch (error) {
      // Of what has been read already Node parses the rest all the same.
      request.off('information', add)
      fail(error)
    }
  }
  request.on('information', add)
}

/**
 * A proxy forwards 1xx responses, but not to a client that is older than they are.
 *
 * @param leftOut a field, in lower case, that they are not to have.
 */
export function relayInformation(
  req: IncomingMessage,
  res: ServerResponse,
  status: number,
  raw: readonly Buffer[],
  leftOut: string | undefined,
): void {
  if (req.httpVersionMajor === 1 && req.httpVersionMinor === 0) return
  // They are not flow-controlled: for a client that does not read, any number of them would pile up.
  if (res.socket?.writableNeedDrain !== false) return
  if (status === 102) res.writeProcessing()
  if (status !== 103) return
  try {
    res.writeEarlyHints(hintsOf(raw, leftOut))
  } catch {
    // Node refuses fields that it cannot write. A hint may be left out.
  }
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
