import { once } from 'node:events'
import { connect, type AddressInfo, type Server as NodeServer, type Socket } from 'node:net'
import type { Server } from 'node:tls'
import { connect as connectTls } from 'node:tls'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createGateway, fromHeader } from 'corral/h3'
import type { GatewayFailure, RequestRecord } from 'corral/h3'
import { FakePool } from './_pool.ts'
import type { Handler } from './_scene.ts'
import { httpWorker, listenOn } from './_scene.ts'

async function openTls(worker: Handler) {
  const pool = new FakePool({ host: '127.0.0.1', port: await listenOn(httpWorker(worker)) })
  const failures: GatewayFailure[] = []
  const records: RequestRecord[] = []
  const gateway = createGateway(pool.asPool, {
    sessionId: fromHeader('x-session-id'),
    onError: (failure) => failures.push(failure),
    onRequest: (record) => records.push(record),
  })
  const listener = await gateway.listen({ port: 0, tls: true })
  onTestFinished(() => listener.close({ grace: 0 }))
  return { pool, listener, gateway, failures, records }
}

/**
 * Sends `text` behind its handshake and resets the connection, just as the gateway is about to write its session tickets: that write
 * takes the reset, and reading finds an end. Resolves with the gateway's end, once it is closed.
 */
async function sendAndReset(server: NodeServer, text: string): Promise<void> {
  const { port } = server.address() as AddressInfo
  const socket = connect({ port, host: '127.0.0.1' })
  socket.on('error', () => {})
  // Typed as that of HTTP.
  const tlsServer = server as unknown as Server
  tlsServer.once('newSession', (_id, _data, done) => {
    socket.resetAndDestroy()
    done()
  })
  const secure = once(tlsServer, 'secureConnection') as Promise<[Socket]>
  const client = connectTls({ socket, rejectUnauthorized: false })
  client.on('error', () => {})
  client.once('secureConnect', () => client.write(text))
  const [accepted] = await secure
  if (!accepted.closed) await new Promise((resolve) => void accepted.once('close', resolve))
}

describe('a client that resets its connection behind the handshake of TLS', () => {
  test.each([
    ['within its upload', 'POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nContent-Length: 500000\r\n\r\nsome'],
    ['with a request that is whole', 'GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n'],
    ['with several', 'GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n'.repeat(3)],
    ['within a head', 'GET / HTTP/1.1\r\nHost: a\r\n'],
    ['with nothing', ''],
  ])('%s, is gone, and holds nothing', async (_when, text) => {
    const { pool, listener, gateway } = await openTls((req, res) => void req.resume().on('end', () => res.end('ok')))
    await sendAndReset(listener.server, text)
    expect(pool.open).toBe(0)
    expect(gateway.stats()).toEqual({ requests: 0, webSockets: 0 })
  })

  test('within its upload is told of as one that has left', async () => {
    const { listener, failures, records } = await openTls(() => {})
    const head = 'POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nContent-Length: 500000\r\n\r\n'
    await sendAndReset(listener.server, `${head}some`)
    await expect.poll(() => records).toMatchObject([{ outcome: 'left', status: undefined }])
    expect(failures).toEqual([])
  })
})
