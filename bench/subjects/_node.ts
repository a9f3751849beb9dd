import type { IncomingMessage, ServerResponse } from 'node:http'
import type { H3Event } from 'h3'

/** The raw request and response of an event on a Node server. */
export function nodeOf(event: H3Event): { readonly req: IncomingMessage; readonly res: ServerResponse } {
  const node = event.runtime?.node
  if (node === undefined) throw new Error('This is no Node server')
  return node as unknown as { req: IncomingMessage; res: ServerResponse }
}
