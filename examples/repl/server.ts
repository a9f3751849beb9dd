/**
 * A JavaScript REPL as a service: one `node:vm` context per process, over HTTP and WebSocket.
 *
 * It is the worker of `npm start`. Nothing in it knows of sessions: the process is the session, and Corral gives every
 * session id a process of its own.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { isIP } from 'node:net'
import nodeAdapter from 'crossws/adapters/node'
import { evaluate } from './evaluate.ts'
import { page } from './page.ts'

const MAX_CODE_BYTES = 1024 * 1024

const socket = nodeAdapter({
  hooks: {
    message: (peer, message) => {
      peer.send(JSON.stringify({ ...evaluate(message.text()), pid: process.pid }))
    },
  },
})

const server = createServer((request, response) => {
  route(request, response).catch(() => response.destroy())
})

server.on('upgrade', (request, stream, head) => {
  stream.on('error', () => {})
  if (pathOf(request) === '/ws' && isSameOrigin(request)) {
    socket.handleUpgrade(request, stream, head).catch(() => stream.destroy())
  } else {
    stream.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
  }
})

async function route(request: IncomingMessage, response: ServerResponse): Promise<void> {
  switch (`${request.method} ${pathOf(request)}`) {
    case 'GET /health':
      return reply(response, 200, { status: 'ok', pid: process.pid })
    case 'GET /':
      response.writeHead(200, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' })
      response.end(page(process.pid))
      return
    case 'POST /eval': {
      if (!isSameOrigin(request)) return reply(response, 403, { error: 'Code from another origin is not run' })
      const code = await readText(request)
      if (code === undefined) {
        response.setHeader('connection', 'close')
        return reply(response, 413, { error: `Code is limited to ${MAX_CODE_BYTES} bytes` })
      }
      const result = evaluate(code)
      return reply(response, 'error' in result ? 400 : 200, { ...result, pid: process.pid })
    }
    default:
      return reply(response, 404, { error: 'Try GET /, GET /health, POST /eval, or a WebSocket on /ws' })
  }
}

/**
 * Whether the request comes from a page of this service, or from no page at all. Without this check any web page that
 * a developer visits could run code here. Names other than `localhost` are refused, since a stranger's name can be
 * made to resolve to a local address.
 */
function isSameOrigin(request: IncomingMessage): boolean {
  const { origin, host } = request.headers
  if (origin === undefined) return true
  if (!URL.canParse(origin)) return false
  const url = new URL(origin)
  const isLocalName = url.hostname === 'localhost' || isIP(url.hostname.replace(/^\[|\]$/g, '')) !== 0
  return isLocalName && url.host === (request.headers['x-forwarded-host'] ?? host)
}

/** The body, or `undefined` when it is too long. */
async function readText(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MAX_CODE_BYTES) return undefined
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function reply(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(`${JSON.stringify(body)}\n`)
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '/').replace(/\?.*/s, '')
}

function stop(): void {
  // Closing removes the file of a unix socket, which exiting alone leaves behind.
  server.close()
  process.exit(0)
}
process.on('SIGTERM', stop)
process.on('SIGINT', stop)

const { SOCKET, PORT } = process.env
if (SOCKET !== undefined) server.listen(SOCKET)
else if (PORT === undefined) throw new Error('Set PORT or SOCKET to where the REPL shall listen')
else server.listen(Number(PORT), '127.0.0.1')
