import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { createServer } from 'node:http'
import { describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { QueueFullError } from 'corral'
import { fromCookie, fromHeader, fromPath, fromQuery } from 'corral/h3'
import type { GatewayOptions } from 'corral/h3'
import { dial, get, openScene, signal } from '../_scene.ts'

const key = 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='
const cookie = { sessionId: fromCookie('sid'), issue: true } as const

async function issued(options: Partial<GatewayOptions>, headers: Record<string, string> = {}) {
  const { port, pool } = await openScene((_req, res) => {
    res.setHeader('Set-Cookie', ['own=1', 'other=2'])
    res.end('ok')
  }, options)
  const response = await fetch(`http://127.0.0.1:${port}/`, { headers })
  await response.text()
  return { pool, response, cookies: response.headers.getSetCookie() }
}

describe('with issue, a client that names no session', () => {
  test('gets a random id by cookie, beside the worker’s own', async () => {
    const { pool, cookies } = await issued(cookie)
    expect(cookies).toEqual(['own=1', 'other=2', `sid=${pool.acquired[0]}; Path=/; HttpOnly; SameSite=Lax`])
    expect(pool.acquired[0]).toMatch(/^[\w-]{22}$/)
  })

  test('gets one by header, where that is what carries it', async () => {
    const { pool, response } = await issued({ sessionId: fromHeader('X-Session-Id'), issue: true })
    expect(response.headers.get('x-session-id')).toBe(pool.acquired[0])
  })

  test('gets that one alone, however the worker uses the header, and later none', async () => {
    const http = createServer((_req, res) => {
      res.writeEarlyHints({ link: '</a.css>; rel=preload', 'x-session-id': 'hinted' })
      res.writeHead(200, { 'X-Session-Id': ['own', 'other'], Trailer: 'X-Session-Id' })
      res.write('ok')
      res.addTrailers({ 'X-Session-Id': 'trailed' })
      res.end()
    })
    http.on('upgrade', (_req, socket) => {
      socket.end(
        'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Session-Id: own\r\n\r\n',
      )
    })
    const { port, pool } = await openScene(http, { sessionId: fromHeader('x-session-id'), issue: true })
    const ask = async (lines: string) => {
      const client = await dial(port)
      client.send(`GET / HTTP/1.1\r\nHost: a\r\n${lines}\r\n\r\n`)
      const answer = await client.rest()
      expect(answer.includes('Cache-Control: private')).toBe(!lines.includes('red'))
      return [...answer.matchAll(/^x-session-id: *(\S+)/gim)].map(([, id]) => id)
    }
    expect(await ask('Connection: close')).toEqual([pool.acquired[0]])
    expect(await ask(`Connection: Upgrade\r\nUpgrade: websocket\r\n${key}`)).toEqual([pool.acquired[1]])
    expect(await ask('Connection: close\r\nX-Session-Id: red')).toEqual([])
    expect(pool.acquired[2]).toBe('red')
  })

  test.each([
    ['by cookie', cookie],
    ['by header', { sessionId: fromHeader('x-session-id'), issue: true }],
  ])('gets it %s where no cache that is shared keeps it', async (_how, options) => {
    const { port } = await openScene((_req, res) => {
      res.setHeader('Cache-Control', 'public, max-age=600')
      res.setHeader('CDN-Cache-Control', 'public')
      res.setHeader('Surrogate-Control', 'max-age=600')
      res.end('ok')
    }, options)
    const first = await fetch(`http://127.0.0.1:${port}/`)
    expect(first.headers.get('cache-control')).toBe('public, max-age=600, private')
    expect([first.headers.get('cdn-cache-control'), first.headers.get('surrogate-control')]).toEqual([null, null])
    const later = await get(port, '/', { cookie: 'sid=mine', 'x-session-id': 'mine' })
    expect(later.headers.get('cache-control')).toBe('public, max-age=600')
    expect(later.headers.get('cdn-cache-control')).toBe('public')
  })

  test.each([
    ['that resets the connection', 502],
    ['that answers too late', 504],
  ])('leaves no session behind when its worker is one %s', async (_what, status) => {
    const worker = createServer((req) => {
      if (status === 502) req.socket.resetAndDestroy()
    })
    const { port, pool } = await openScene(worker, { ...cookie, upstream: { headersTimeout: 50 } })
    const response = await get(port, '/')
    expect([response.status, response.headers.get('set-cookie')]).toEqual([status, null])
    await pool.until(() => pool.ended.length > 0)
    expect([pool.ended, pool.open]).toEqual([pool.acquired, 0])
  })

  test.each([
    ['request', ''],
    ['handshake', `Connection: Upgrade\r\nUpgrade: websocket\r\n${key}\r\n`],
  ])('leaves no session behind when it leaves before its %s is answered', async (_what, lines) => {
    const arrived = signal()
    const worker = createServer(() => arrived.resolve())
    worker.on('upgrade', () => arrived.resolve())
    const { port, pool } = await openScene(worker, cookie)
    const client = await dial(port)
    client.send(`GET / HTTP/1.1\r\nHost: a\r\n${lines}\r\n`)
    await arrived.promise
    client.socket.destroy()
    await pool.until(() => pool.ended.length > 0)
    expect([pool.ended, pool.open]).toEqual([pool.acquired, 0])
  })

  test('keeps its session when it leaves within the response', async () => {
    const { port, pool } = await openScene((_req, res) => void res.write('begun'), cookie)
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    await client.take('begun')
    client.socket.destroy()
    await pool.idle()
    expect(pool.ended).toEqual([])
  })

  test('gets it by the first source that can carry one', async () => {
    const sessionId = [fromPath(), fromQuery('sid'), fromCookie('sid'), fromHeader('x')]
    const { cookies } = await issued({ sessionId, issue: true })
    expect(cookies.at(-1)).toMatch(/^sid=/)
  })

  test('gets it with the attributes that are asked for', async () => {
    const none = await issued({ ...cookie, issue: { sameSite: 'none', path: '/app', maxAge: 90_500 } })
    expect(none.cookies.at(-1)).toMatch(/; Path=\/app; HttpOnly; SameSite=None; Max-Age=91; Secure$/)
    const brief = await issued({ ...cookie, issue: { maxAge: 1 } })
    expect(brief.cookies.at(-1)).toMatch(/; Max-Age=1$/)
    const host = await issued({ sessionId: fromCookie('__Host-sid'), issue: true })
    expect(host.cookies.at(-1)).toMatch(/^__Host-sid=.*; Path=\/; HttpOnly; SameSite=Lax; Secure$/)
  })

  test.each([
    [false, 'https', false],
    [true, 'https', true],
    [true, 'WSS', true],
    [true, 'http', false],
    [true, 'https, http', false],
    [true, 'http, https', true],
    [2, 'https, http', true],
    [2, 'https, http, https', false],
  ])('behind proxies (%s) that say %j gets a cookie that is Secure: %s', async (trustForwarded, said, isSecure) => {
    const { cookies } = await issued({ ...cookie, trustForwarded }, { 'x-forwarded-proto': said })
    expect(cookies.at(-1)?.endsWith('; Secure')).toBe(isSecure)
  })

  test('gets it with the answer to a handshake, and with a refusal of the worker’s', async () => {
    const http = createServer((_req, res) => res.end())
    const server = new WebSocketServer({
      server: http,
      verifyClient: ({ req }: { req: IncomingMessage }) => req.url === '/',
    })
    onTestFinished(() => server.close())
    const { port, pool } = await openScene(http, cookie)
    for (const path of ['/', '/refused']) {
      const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`)
      socket.on('error', () => {})
      onTestFinished(() => socket.terminate())
      const [answer] = (await once(socket, path === '/' ? 'upgrade' : 'unexpected-response')).slice(-1) as [
        { headers: Record<string, string[]> },
      ]
      expect(answer.headers['set-cookie']).toEqual([
        expect.stringContaining(`sid=${pool.acquired.at(-1)}; Path=/; HttpOnly`),
      ])
    }
    expect(new Set(pool.acquired).size).toBe(2)
  })

  test('gets none when there is no worker for it', async () => {
    const { port, pool } = await openScene(() => {}, cookie)
    pool.refusal = new QueueFullError('x', 1)
    const response = await fetch(`http://127.0.0.1:${port}/`)
    expect([response.status, response.headers.getSetCookie()]).toEqual([503, []])
  })

  test('keeps the id that it names, and one that is malformed is refused', async () => {
    const { port, pool } = await openScene((_req, res) => res.end('ok'), cookie)
    const response = await get(port, '/', { cookie: 'sid=mine' })
    expect(response.headers.getSetCookie()).toEqual([])
    expect(pool.acquired).toEqual(['mine'])
    expect((await get(port, '/', { cookie: 'sid=a%20b' })).status).toBe(400)
  })
})

test.each<[string, Partial<GatewayOptions>]>([
  ['issue', { sessionId: fromPath(), issue: true }],
  ['issue.sameSite', { ...cookie, issue: { sameSite: 'no' as 'none' } }],
  ['issue.secure', { ...cookie, issue: { sameSite: 'none', secure: false } }],
  ['issue.secure', { sessionId: fromCookie('__Host-sid'), issue: { secure: false } }],
  ['issue.path', { sessionId: fromCookie('__Host-sid'), issue: { path: '/app' } }],
  ['issue.path', { ...cookie, issue: { path: '/; Domain=evil' } }],
  ['issue.maxAge', { ...cookie, issue: { maxAge: -1 } }],
  ['issue.domain', { ...cookie, issue: { domain: 'x' } as object }],
])('%s is refused when it makes no sense', async (option, options) => {
  await expect(openScene(() => {}, options)).rejects.toThrow(`"${option}"`)
})
