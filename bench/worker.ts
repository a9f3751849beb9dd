/**
 * A worker with a process: `PORT` says where it listens. Says so in a line on stdout, answers everything with 200, and tells in each answer when its
 * process began and when it listened, in milliseconds since 1970.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

const server = createServer((_, res) => {
  res.writeHead(200, { began: performance.timeOrigin, listening, 'content-length': 0 }).end()
})
let listening = 0
server.listen(Number(process.env['PORT'] ?? 0), '127.0.0.1', () => {
  listening = performance.timeOrigin + performance.now()
  console.log(`listening on ${(server.address() as AddressInfo).port}`)
})
