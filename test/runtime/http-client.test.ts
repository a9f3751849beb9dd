import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, Server } from 'node:http'
import type { RequestListener } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import type { AddressInfo, Server as NetServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { requestStatus } from '../../src/runtime/http-client.ts'

const never = new AbortController().signal
const servers = new Set<NetServer>()

afterEach(() => {
  for (const server of servers) {
    if (server instanceof Server) server.closeAllConnections()
    server.close()
  }
  servers.clear()
})

async function serve(listener: RequestListener) {
  const server = createServer(listener)
  servers.add(server)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
}

describe('requestStatus', () => {
  test('resolves with the status, whatever it is, and follows no redirect', async () => {
    const address = await serve((request, response) => {
      response.writeHead(Number(request.url?.slice(1)), { location: '/200' }).end('body')
    })
    const statuses = [200, 204, 302, 404, 500]
    expect(
      await Promise.all(statuses.map((status) => requestStatus(address, { path: `/${status}`, signal: never }))),
    ).toEqual(statuses)
  })

  test('sends what it was told to, on a connection of its own', async () => {
    const seen: object[] = []
    const address = await serve(({ method, url, headers }, response) => {
      seen.push({ method, url, connection: headers.connection, length: headers['content-length'] })
      response.end()
    })
    await requestStatus(address, { path: '/a?b=c', signal: never })
    await requestStatus(address, { method: 'POST', path: '/reset', signal: never })
    expect(seen).toEqual([
      { method: 'GET', url: '/a?b=c', connection: 'close', length: undefined },
      { method: 'POST', url: '/reset', connection: 'close', length: '0' },
    ])
  })

  test('reaches a unix socket', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'http-'))
    const socketPath = join(directory, 's')
    const server = createServer((_request, response) => response.writeHead(202).end())
    servers.add(server)
    await once(server.listen(socketPath), 'listening')
    expect(await requestStatus({ socketPath }, { path: '/', signal: never })).toBe(202)
    rmSync(directory, { recursive: true })
  })

  test('does not read an endless body to its end', async () => {
    let close = () => {}
    const closed = new Promise<void>((resolve) => {
      close = resolve
    })
    const address = await serve((_request, response) => {
      response.on('close', close)
      const more = () => response.write('x'.repeat(200_000))
      response.on('drain', more)
      more()
    })
    expect(await requestStatus(address, { path: '/', signal: never })).toBe(200)
    await closed
  })

  test('rejects when nobody listens', async () => {
    const address = await serve(() => {})
    for (const server of servers) await once(server.close(), 'close')
    servers.clear()
    await expect(requestStatus(address, { path: '/', signal: never })).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  })

  test.each([
    ['before an answer', (): string => ''],
    ['in the middle of one', (): string => 'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf'],
    ['after something else than HTTP', (): string => 'SSH-2.0-OpenSSH\r\n'],
  ])('rejects when the connection ends %s', async (_title, answer) => {
    const server = createTcpServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () => socket.end(answer()))
    })
    servers.add(server)
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const address = { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
    await expect(requestStatus(address, { path: '/', signal: never })).rejects.toBeInstanceOf(Error)
  })

  test.each([
    [100, (asked: Promise<number>) => expect(asked).resolves.toBe(204)],
    [101, (asked: Promise<number>) => expect(asked).rejects.toThrow('GET / got more than 100 informational responses')],
  ])('after %i informational responses', async (count, expectIt) => {
    const server = createTcpServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () => socket.write(`${'HTTP/1.1 102 P\r\n\r\n'.repeat(count)}HTTP/1.1 204 N\r\n\r\n`))
    })
    servers.add(server)
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const address = { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
    await expectIt(requestStatus(address, { path: '/', signal: never }))
  })

  test.each(['headers', 'body'])(
    'rejects with the reason when its signal aborts while it waits for the %s',
    async (part) => {
      const reason = new Error('enough')
      const controller = new AbortController()
      const address = await serve((_request, response) => {
        if (part === 'body') response.write('half')
        setImmediate(() => controller.abort(reason))
      })
      await expect(requestStatus(address, { path: '/', signal: controller.signal })).rejects.toBe(reason)
    },
  )

  test('sends nothing when its signal has aborted before', async () => {
    const address = { host: '127.0.0.1', port: 1 }
    await expect(requestStatus(address, { path: '/', signal: AbortSignal.abort('no') })).rejects.toBe('no')
  })
})
