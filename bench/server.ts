import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { body, Comparison, sizes } from './content.ts'

const bodies = new Map(Object.entries(sizes).map(([path, size]) => [path, body(size)]))

/** Answers `GET` with the body that the path names, and `POST` with whether that body came. */
export function answerBody(req: IncomingMessage, res: ServerResponse): void {
  const known = bodies.get(req.url ?? '')
  if (known === undefined) {
    res.writeHead(404).end()
    return
  }
  if (req.method === 'POST') {
    answerUpload(req, res, known)
    return
  }
  res.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': known.length })
  res.end(known)
}

function answerUpload(req: IncomingMessage, res: ServerResponse, expected: Buffer): void {
  const comparison = new Comparison(expected)
  req.on('data', (chunk: Buffer) => comparison.add(chunk))
  req.on('end', () => {
    const problem = comparison.problem()
    const text = problem ?? received
    res.writeHead(problem === undefined ? 200 : 422, { 'content-length': text.length }).end(text)
  })
}

/** Answer to an upload that came as it should. */
export const received = 'received'

/** @returns the port. */
export async function listenOn(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1', 1024)
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}
