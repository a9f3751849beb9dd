import { once } from 'node:events'
import { createServer } from 'node:http'
import type { RequestListener } from 'node:http'
import { text } from 'node:stream/consumers'
import { serve as serveCrossws } from 'crossws/server/node'
import { H3, toNodeHandler, withBase } from 'h3'
import { describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { QueueFullError } from 'corral'
import { createGateway, fromCookie, fromHeader, fromPath } from 'corral/h3'
import type { Gateway, GatewayOptions } from 'corral/h3'
import { FakePool } from './_pool.ts'
import { dial, get, httpWorker, listenOn } from './_scene.ts'

/** A gateway that does not listen, in front of a worker that echoes requests and messages. */
async function openMountable(options: Partial<GatewayOptions> = {}): Promise<{ gateway: Gateway; pool: FakePool }> {
  const worker = httpWorker(async (req, res) => {
    let body = ''
    for await (const chunk of req) body += chunk
    res.setHeader('set-cookie', ['a=1', 'b=2'])
    res.end(`${req.method} ${req.url} ${String(req.headers['x-forwarded-prefix'])} ${body}`)
  })
  const chat = new WebSocketServer({ server: worker })
  chat.on('connection', (socket, req) => {
    socket.on('message', (data: Buffer) => socket.send(`${req.url} ${data.toString()}`))
  })
  const pool = new FakePool({ host: '127.0.0.1', port: await listenOn(worker) })
  const gateway = createGateway(pool.asPool, { sessionId: [fromHeader('x-session-id'), fromPath()], ...options })
  return { gateway, pool }
}

function serveNode(handler: RequestListener): Promise<number> {
  return listenOn(createServer(handler))
}

/** An app that is served with crossws's plugin, as h3 documents it. */
async function serveApp(app: H3): Promise<number> {
  const server = serveCrossws({
    port: 0,
    hostname: '127.0.0.1',
    silent: true,
    gracefulShutdown: false,
    fetch: (request) => app.fetch(request),
    websocket: {},
  })
  await server.ready()
  onTestFinished(() => server.close(true))
  return Number(new URL(server.url ?? '').port)
}

async function chat(port: number, path: string, text: string): Promise<string> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`)
  onTestFinished(() => socket.terminate())
  await once(socket, 'open')
  socket.send(text)
  const [data] = (await once(socket, 'message')) as [Buffer]
  socket.close()
  return String(data)
}

describe('the app', () => {
  test('serves in a Node server', async () => {
    const { gateway, pool } = await openMountable()
    const port = await serveNode(toNodeHandler(gateway.app))
    const response = await get(port, '/x?y=%41')
    expect(await response.text()).toBe('GET /x?y=%41 undefined ')
    expect(response.headers.getSetCookie()).toEqual(['a=1', 'b=2'])
    expect(await pool.idle()).toBe(0)
  })

  test('forwards the raw target, not h3’s reading of it', async () => {
    const { gateway } = await openMountable()
    const port = await serveNode(toNodeHandler(gateway.app))
    for (const target of ['/%41/../b//c', '//a/b', '/%zz']) {
      const client = await dial(port)
      client.send(`GET ${target} HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: close\r\n\r\n`)
      expect(await client.rest()).toContain(`GET ${target} `)
    }
  })

  test('takes bodies', async () => {
    const { gateway } = await openMountable()
    const port = await serveNode(toNodeHandler(gateway.app))
    const body = 'x'.repeat(300_000)
    const response = await fetch(`http://127.0.0.1:${port}/s/red/up`, { method: 'PUT', body })
    expect(await response.text()).toBe(`PUT /up /s/red ${body}`)
  })

  test('answers with its own problems', async () => {
    const { gateway, pool } = await openMountable()
    const port = await serveNode(toNodeHandler(gateway.app))
    pool.refusal = new QueueFullError('red', 1)
    const response = await get(port, '/')
    expect([response.status, response.headers.get('content-type')]).toEqual([503, 'application/problem+json'])
    expect(await response.json()).toMatchObject({ code: 'QUEUE_FULL' })
  })

  test('releases the lease when the client leaves', async () => {
    const { gateway, pool } = await openMountable()
    const port = await serveNode(toNodeHandler(gateway.app))
    const client = await dial(port)
    client.send('POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nContent-Length: 9\r\n\r\n')
    await pool.until(() => pool.granted === 1)
    client.socket.destroy()
    expect(await pool.idle()).toBe(0)
  })

  test('tells h3’s Node handler when the response is over, sent or not', async () => {
    const { gateway, pool } = await openMountable()
    const serveOne = toNodeHandler(gateway.app)
    const over: unknown[] = []
    const port = await serveNode((req, res) => void over.push(serveOne(req, res)))
    expect((await get(port, '/')).status).toBe(200)
    await over[0]
    const client = await dial(port)
    client.send('POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nContent-Length: 9\r\n\r\n')
    await pool.until(() => pool.granted === 2)
    client.socket.destroy()
    await over[1]
  })

  test('needs a Node server', async () => {
    const { gateway } = await openMountable()
    expect((await gateway.app.request('/')).status).toBe(501)
  })
})

describe('under a base', () => {
  const mounts: [string, (app: H3, gateway: Gateway) => unknown][] = [
    ['mount', (app, gateway) => app.mount('/tools', gateway.app)],
    ['use', (app, gateway) => app.use('/tools', gateway.app)],
    ['withBase', (app, gateway) => app.all('/tools/**', withBase('/tools', gateway.app))],
    [
      'mounted fetch',
      (app, gateway) => app.mount('/tools', { fetch: (request: Request) => gateway.app.fetch(request) }),
    ],
    ['mounted in a mounted app', (app, gateway) => app.mount('/', new H3().mount('/tools', gateway.app))],
  ]

  test.each(mounts)('by %s: the base is taken off the raw target and told to the worker', async (_name, mount) => {
    const { gateway } = await openMountable()
    const app = new H3()
    mount(app, gateway)
    app.get('/other', () => 'mine')
    const port = await serveNode(toNodeHandler(app))
    for (const [target, seen] of [
      ['/tools/s/red/a%2Fb/c?d', '/a%2Fb/c?d /tools/s/red'],
      ['/tools/s/red', '/ /tools/s/red'],
      ['/t%6fols/s/red/%41', '/%41 /t%6fols/s/red'],
    ] as const) {
      const client = await dial(port)
      client.send(`GET ${target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`)
      expect(await client.rest()).toContain(`GET ${seen} `)
    }
    expect(await (await get(port, '/tools?a')).text()).toBe('GET /?a /tools ')
    expect(await (await get(port, '/other')).text()).toBe('mine')
  })

  test('a target that only means the base after dots are resolved is refused', async () => {
    const { gateway, pool } = await openMountable()
    const port = await serveNode(toNodeHandler(new H3().mount('/tools', gateway.app)))
    const client = await dial(port)
    client.send('GET /x/../tools/s/red/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
    expect(await client.rest()).toMatch(/^HTTP\/1\.1 400 [^]*REQUEST_INVALID/)
    expect(pool.acquired).toEqual([])
  })

  test.each(mounts)('by %s: cookies that it issues are for the base', async (_name, mount) => {
    const { gateway } = await openMountable({ sessionId: fromCookie('sid'), issue: true })
    const app = new H3()
    mount(app, gateway)
    const port = await serveNode(toNodeHandler(app))
    const response = await fetch(`http://127.0.0.1:${port}/tools/a/b`)
    expect(response.headers.getSetCookie().at(-1)).toMatch(/^sid=[\w-]{22}; Path=\/tools; HttpOnly;/)
  })

  test.each([
    ['sid', '/t/acme/x', '/t/acme'],
    ['sid', '/t/a;Domain=evil.test/x', '/t'],
    ['__Host-sid', '/t/acme/x', '/'],
  ])('the cookie %s that is issued at %s is for %s', async (name, target, path) => {
    const { gateway } = await openMountable({ sessionId: fromCookie(name), issue: true })
    const port = await serveNode(toNodeHandler(new H3().mount('/t/:tenant', gateway.app)))
    const response = await fetch(`http://127.0.0.1:${port}${target}`)
    const [, said] =
      /^[^;]*; Path=([^;]*); HttpOnly; SameSite=Lax(?:; Secure)?$/.exec(response.headers.getSetCookie().at(-1) ?? '') ??
      []
    expect(said).toBe(path)
  })

  test('with a parameter in the base', async () => {
    const { gateway } = await openMountable()
    const port = await serveNode(toNodeHandler(new H3().mount('/t/:tenant', gateway.app)))
    expect(await (await get(port, '/t/acme/x')).text()).toBe('GET /x /t/acme ')
  })
})

describe('WebSockets', () => {
  test('upgrade through crossws in an app', async () => {
    const { gateway, pool } = await openMountable()
    const port = await serveApp(gateway.app)
    expect(await chat(port, '/s/red/live?a', 'hi')).toBe('/live?a hi')
    expect(await pool.idle()).toBe(0)
  })

  test('upgrade through crossws under a base', async () => {
    const { gateway, pool } = await openMountable()
    const port = await serveApp(new H3().mount('/tools', gateway.app))
    expect(await chat(port, '/tools/s/red/live?a', 'hi')).toBe('/live?a hi')
    expect(await (await fetch(`http://127.0.0.1:${port}/tools/s/red/x`)).text()).toBe('GET /x /tools/s/red ')
    expect(await pool.idle()).toBe(0)
  })

  test('are refused with a problem through crossws', async () => {
    const { gateway, pool } = await openMountable()
    const port = await serveApp(gateway.app)
    pool.refusal = new QueueFullError('red', 1)
    const socket = new WebSocket(`ws://127.0.0.1:${port}/s/red/`)
    const [, answer] = await once(socket, 'unexpected-response')
    expect((answer as { statusCode: number }).statusCode).toBe(503)
    socket.on('error', () => {})
    socket.terminate()
  })

  test('upgrade in a Node server of one’s own', async () => {
    const { gateway, pool } = await openMountable({ base: '/tools' })
    const server = createServer(gateway.handler)
    server.on('upgrade', (...args) => void gateway.upgrade(...args))
    server.on('checkContinue', gateway.checkContinue)
    const port = await listenOn(server)
    expect(await chat(port, '/tools/s/red/live', 'hi')).toBe('/live hi')
    expect(await (await fetch(`http://127.0.0.1:${port}/tools/s/red/x`)).text()).toBe('GET /x /tools/s/red ')
    expect(await pool.idle()).toBe(0)
  })
})

describe('an upgrade to anything but a WebSocket is ignored', () => {
  const servers: [string, string, (gateway: Gateway) => Promise<number>][] = [
    [
      'in a Node server of one’s own',
      '/x',
      (gateway) => listenOn(createServer(gateway.handler).on('upgrade', (...args) => void gateway.upgrade(...args))),
    ],
    ['in an app that crossws serves', '/tools/x', (gateway) => serveApp(new H3().mount('/tools', gateway.app))],
  ]

  test.each(servers)('%s: the request is an ordinary one, and so are those after it', async (_where, path, serve) => {
    const { gateway, pool } = await openMountable()
    const client = await dial(await serve(gateway))
    const head = `POST ${path} HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nContent-Length: 8\r\n`
    const offer = 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n'
    client.send(`${head}${offer}\r\nthe `)
    await pool.until(() => pool.granted === 1)
    client.send('body')
    await client.take('the body')
    client.send(`${head}Connection: close\r\n\r\nthe next`)
    expect(await client.rest()).toContain('the next')
    expect(await pool.idle()).toBe(0)
  })

  test.each(servers)('%s: one of HTTP/1.0, too', async (_where, path, serve) => {
    const { gateway, pool } = await openMountable()
    const client = await dial(await serve(gateway))
    client.send(
      `GET ${path} HTTP/1.0\r\nX-Session-Id: red\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
    )
    expect(await client.rest()).toMatch(/^HTTP\/1\.1 200 /)
    expect(await pool.idle()).toBe(0)
  })

  test('a CONNECT is none, and refused', async () => {
    const { gateway, pool } = await openMountable()
    const server = createServer(gateway.handler).on('connect', (...args) => void gateway.upgrade(...args))
    const client = await dial(await listenOn(server))
    client.send('CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n')
    expect(await client.rest()).toMatch(/^HTTP\/1\.1 400 [^]*UPGRADE_INVALID/)
    expect(pool.acquired).toEqual([])
  })
})

describe('behind other middleware', () => {
  test.each([
    ['a length', 'Content-Length: 3\r\n\r\nabc'],
    ['chunks', 'Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n'],
  ])('a body of %s that was read before is no empty one: 500, and nothing is started', async (_framing, framed) => {
    const causes: unknown[] = []
    const { gateway, pool } = await openMountable({ onError: ({ cause }) => causes.push(cause) })
    const app = new H3().use(async (event, next) => {
      await event.req.text()
      return next()
    })
    const readFirst: RequestListener = (req, res) => void text(req).then(() => gateway.handler(req, res))
    for (const port of [await serveApp(app.mount('/tools', gateway.app)), await serveNode(readFirst)]) {
      const client = await dial(port)
      client.send(`POST /tools/up HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: close\r\n${framed}`)
      expect(await client.rest()).toMatch(/^HTTP\/1\.1 500 [^]*INTERNAL_ERROR/)
    }
    expect(causes.map(String)).toEqual(Array.from({ length: 2 }, () => expect.stringContaining('body') as string))
    expect(pool.acquired).toEqual([])
  })

  test('headers that were staged before stay, and Set-Cookie keeps its duplicates', async () => {
    const { gateway } = await openMountable()
    const port = await serveNode((req, res) => {
      res.setHeader('x-front', '1')
      gateway.handler(req, res)
    })
    const response = await get(port, '/')
    expect(response.headers.get('x-front')).toBe('1')
    expect(response.headers.getSetCookie()).toEqual(['a=1', 'b=2'])
  })
})
