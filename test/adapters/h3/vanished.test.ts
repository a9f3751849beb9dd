import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createGateway, fromHeader, trustedHeader } from 'corral/h3'
import type { RequestRecord } from 'corral/h3'
import { listenOn, openScene, signal } from './_scene.ts'

/** Sends a request and resets the connection, all while this process, and so the gateway, does nothing. */
function sendAndReset(port: number, head: string): void {
  const client = `
    const socket = require('node:net').connect(${port}, '127.0.0.1', () => {
      socket.write(${JSON.stringify(`${head}\r\n\r\n`)}, () => socket.resetAndDestroy())
    })`
  const { status } = spawnSync(process.execPath, ['-e', client])
  expect(status).toBe(0)
}

const handshake =
  'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n' +
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='

describe('a client that has reset its connection before its request is read', () => {
  test.each([
    ['a request', 'GET / HTTP/1.1\r\nHost: a'],
    ['a handshake', handshake],
  ])('gets no session by %s: whether its address may have one nobody can tell', async (_what, head) => {
    const told = signal<RequestRecord>()
    const { port, pool } = await openScene((_req, res) => res.end('ok'), { onRequest: told.resolve })
    sendAndReset(port, `${head}\r\nX-Session-Id: red`)
    expect(await told.promise).toMatchObject({ outcome: 'left', sessionId: undefined, address: undefined })
    expect(pool.acquired).toEqual([])
  })

  test('is not taken for a proxy that may name a principal', async () => {
    const told = signal<RequestRecord>()
    const authorize = trustedHeader('x-user', { proxies: ['10.0.0.1'] })
    const { port, pool } = await openScene((_req, res) => res.end('ok'), { authorize, onRequest: told.resolve })
    sendAndReset(port, 'POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nX-User: alice\r\nContent-Length: 0')
    expect(await told.promise).toMatchObject({ outcome: 'left', principal: undefined })
    expect(pool.acquired).toEqual([])
  })
})

test('a client on a unix socket, which has no address, is served and may name a principal', async () => {
  const { pool } = await openScene((_req, res) => res.end('ok'))
  const gateway = createGateway(pool.asPool, {
    sessionId: fromHeader('x-session-id'),
    authorize: trustedHeader('x-user', { proxies: ['10.0.0.1'] }),
  })
  const directory = mkdtempSync(join(tmpdir(), 'corral-test-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  const socketPath = join(directory, 's')
  await listenOn(createServer(gateway.handler), socketPath)
  const status = await new Promise((resolve, reject) => {
    const headers = { 'x-session-id': 'red', 'x-user': 'alice' }
    request({ socketPath, headers, agent: false }, (res) => resolve(res.resume().statusCode))
      .on('error', reject)
      .end()
  })
  expect(status).toBe(200)
  expect(pool.acquired).toEqual(['alice/red'])
})
