import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { fromNodeUpgradeHandler } from 'crossws/adapters/node'
import type { H3Event } from 'h3'
import { H3, HTTPError, defineWebSocketHandler } from 'h3'
import type { Core } from './core.ts'
import { handle, handleUpgrade } from './entry.ts'
import { ignoreUpgrade, isIgnored } from './ignored-upgrade.ts'
import { parseTarget, pathEnd } from './target.ts'
import { clientOf } from './upgrade-client.ts'

/** Made of the same core as the raw handlers: h3 and crossws decide, the core moves the bytes. */
export function createApp(core: Core): H3 {
  const onUpgrade = defineWebSocketHandler((event) => {
    const { req, upgrade } = nodeOf(event)
    if (upgrade === undefined) throw new HTTPError({ status: 501, message: 'The gateway needs a Node server' })
    if (isIgnored(req) && ignoreUpgrade(req, upgrade.socket, upgrade.head)) return fromNodeUpgradeHandler(() => {})
    // Before crossws gets to call the handler: it has no listener on the socket yet.
    const client = clientOf(core, req, upgrade.socket, upgrade.head)
    const base = baseOf(core, event, req)
    return fromNodeUpgradeHandler(() => handleUpgrade(core, client, base))
  })
  // Whether a target is well formed is for the worker to say.
  return new H3({ allowMalformedURL: true }).all(everything, (event) =>
    nodeOf(event).upgrade === undefined ? takeOver(core, event) : onUpgrade(event),
  )
}

interface NodeRuntime {
  readonly req: IncomingMessage
  readonly res?: ServerResponse | undefined
  readonly upgrade?: { readonly socket: Socket; readonly head: Buffer } | undefined
}

/** What h3 takes for "the response has been sent". */
const handled = Symbol.for('h3.handled')

/** Answers on the raw response. Nothing may be thrown once it has begun: h3 would add its error to the body. */
async function takeOver(core: Core, event: H3Event): Promise<symbol> {
  const { req, res } = nodeOf(event)
  if (res === undefined) throw new HTTPError({ status: 501, message: 'The gateway needs a Node server' })
  // The client may have left while middleware was asked.
  if (res.destroyed) return handled
  const closed = new Promise<void>((resolve) => {
    res.once('close', () => {
      res.end = endAgain
      resolve()
    })
  })
  handle(core, req, res, baseOf(core, event, req), false)
  await closed
  return handled
}

/**
 * In place of `res.end` once the response is over. h3's Node handler ends every response, to be told when, and Node would make
 * an error of that, with its stack: a tenth of a request.
 */
function endAgain(this: ServerResponse, ...args: unknown[]): ServerResponse {
  const told = args.at(-1)
  if (typeof told === 'function') told()
  return this
}

function nodeOf(event: H3Event): NodeRuntime {
  const node = event.runtime?.node as NodeRuntime | undefined
  if (node === undefined) throw new HTTPError({ status: 501, message: 'The gateway needs a Node server' })
  return node
}

/**
 * The path that the app is mounted under. h3 tells it in two ways: `mount` and `use` copy the app's route with the base before
 * it, `withBase` and mounted fetch handlers take the base off `event.url`. The raw target knows of neither.
 */
function baseOf(core: Core, event: H3Event, req: IncomingMessage): string | undefined {
  if (core.settings.base !== '') return core.settings.base
  const target = parseTarget(req.url ?? '')
  if (target === undefined) return undefined
  const routed = depthOf(event.context.matchedRoute?.route ?? everything) - depthOf(everything)
  const seen = event.url.pathname
  const path = target.path.slice(0, pathEnd(target.path))
  // Mostly h3 reads a path as it stands.
  const raw = path === seen ? path : new URL(`http://h${path}`).pathname
  // Of `/base` all is taken off, and `/` is left.
  const taken = seen === '/' && !raw.endsWith('/') ? depthOf(raw) : depthOf(raw) - depthOf(seen)
  return firstSegments(raw, taken + routed)
}

/** What the gateway's own route adds to that of the app it is mounted in. */
const everything = '/**'

/** Of how many segments a path is. */
function depthOf(path: string): number {
  let depth = 0
  for (let at = path.indexOf('/'); at !== -1; at = path.indexOf('/', at + 1)) depth++
  return depth
}

function firstSegments(path: string, count: number): string {
  let end = 0
  for (let segments = 0; segments < count && end < path.length; segments++) {
    const next = path.indexOf('/', end + 1)
    end = next === -1 ? path.length : next
  }
  return path.slice(0, end)
}
