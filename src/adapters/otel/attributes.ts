import type { IncomingMessage } from 'node:http'
import type { Attributes } from '@opentelemetry/api'
import type { Reached, RequestRecord } from '../h3/index.ts'
import type { TracingSettings } from './options.ts'

/** Methods that a label may have: RFC 9110 and RFC 5789. */
const known = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH'])

/** What a span is called. A gateway knows no routes, and a path is nothing to group by. */
export function spanName(method = ''): string {
  return known.has(method) ? method : 'HTTP'
}

/** The semantic conventions for HTTP servers, as they are stable since 1.23: what is known when a request begins. */
export function requestAttributes(
  req: IncomingMessage,
  { proto, host }: Reached,
  { queries }: TracingSettings,
): Attributes {
  const { method = '', headers, socket, httpVersion } = req
  const { path, query } = split(req.url ?? '')
  const attributes: Attributes = {
    'http.request.method': known.has(method) ? method : '_OTHER',
    'url.scheme': proto,
    'url.path': path,
    'network.protocol.version': httpVersion === '2.0' ? '2' : httpVersion,
  }
  if (!known.has(method)) attributes['http.request.method_original'] = method
  if (queries && query !== '') attributes['url.query'] = query
  if (headers['user-agent'] !== undefined) attributes['user_agent.original'] = headers['user-agent']
  if (socket.remoteAddress !== undefined) attributes['network.peer.address'] = socket.remoteAddress
  if (socket.remotePort !== undefined) attributes['network.peer.port'] = socket.remotePort
  const [, name, port] = /^(\[[^\]]*\]|[^:]*)(?::(\d+))?$/.exec(host ?? '') ?? []
  if (name) attributes['server.address'] = name.replace(/^\[|\]$/g, '')
  if (port !== undefined) attributes['server.port'] = Number(port)
  return attributes
}

/** What is known when it is over. An `error.type` means that it failed, and that it was not the client's doing. */
export function responseAttributes(record: RequestRecord): Attributes {
  const { kind, outcome, status, code, address, bytesIn, bytesOut } = record
  const attributes: Attributes = {
    'corral.kind': kind,
    'corral.outcome': outcome,
    'corral.bytes.received': bytesIn,
    'corral.bytes.sent': bytesOut,
  }
  if (address !== undefined) attributes['client.address'] = address
  if (status !== undefined) attributes['http.response.status_code'] = status
  if (code !== undefined) attributes['corral.code'] = code
  if (outcome === 'cut' || (status !== undefined && status >= 500)) attributes['error.type'] = code ?? String(status)
  return attributes
}

function split(target: string): { path: string; query: string } {
  const origin = target.replace(/^https?:\/\/[^/?#]*/i, '')
  const [, path = '', query = ''] = /^([^?#]*)(?:\?([^#]*))?/.exec(origin) ?? []
  return { path: path === '' ? '/' : path, query }
}
