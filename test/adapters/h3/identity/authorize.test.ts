import { once } from 'node:events'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { createServer } from 'node:http'
import { HTTPError } from 'h3'
import { describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { bearerToken, sessionKey, trustedHeader } from 'corral/h3'
import type { Authorizer, RequestRecord } from 'corral/h3'
import { dial, get, openScene, signal } from '../_scene.ts'

const [alice, bob] = ['alice-0123456789abcdef', 'bob-0123456789abcdef']
const tokens = { [alice]: 'alice', [bob]: 'bob' }

const handshake =
  'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'

function bearer(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}` }
}

describe('with authorize, a session', () => {
  test('belongs to the principal that opened it: the same id of another one is another session', async () => {
    const { port, pool } = await openScene((_req, res) => res.end('ok'), { authorize: bearerToken(tokens) })
    for (const token of [alice, bob, alice]) await get(port, '/', bearer(token))
    expect(pool.acquired).toEqual(['alice/red', 'bob/red', 'alice/red'])
    expect(pool.tenants).toEqual(['alice', 'bob'])
  })

  test('goes by an id that no other principal can have', () => {
    expect(sessionKey('a/b', 'c')).not.toBe(sessionKey('a', 'b/c'))
    expect(sessionKey('a%2Fb', 'c')).not.toBe(sessionKey('a/b', 'c'))
    expect(sessionKey(undefined, 'red')).toBe('red')
  })

  test('is looked at with WebSockets, too', async () => {
    const http = createServer()
    const server = new WebSocketServer({ server: http })
    onTestFinished(() => server.close())
    const { port, pool } = await openScene(http, { authorize: bearerToken(tokens) })
    const refused = new WebSocket(`ws://127.0.0.1:${port}/`, { headers: { 'x-session-id': 'red' } })
    const [, answer] = (await once(refused, 'unexpected-response')) as [unknown, { statusCode: number }]
    expect(answer.statusCode).toBe(401)
    refused.on('error', () => {})
    refused.terminate()
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`, { headers: { 'x-session-id': 'red', ...bearer(bob) } })
    onTestFinished(() => socket.terminate())
    await once(socket, 'open')
    expect(pool.acquired).toEqual(['bob/red'])
  })

  test('is told of with its principal', async () => {
    const told = signal<RequestRecord>()
    const { port } = await openScene((_req, res) => res.end('ok'), {
      authorize: bearerToken(tokens),
      onRequest: told.resolve,
    })
    await get(port, '/', bearer(alice))
    expect(await told.promise).toMatchObject({ principal: 'alice', sessionId: 'alice/red' })
  })
})

describe('bearerToken', () => {
  test.each([
    ['no token', {}],
    ['another scheme', { authorization: `Basic ${alice}` }],
    ['an unknown token', bearer('alice-0123456789abcdeX')],
    ['a token and more', bearer(`${alice} ${bob}`)],
    ['nothing behind the scheme', { authorization: 'Bearer ' }],
  ])('answers 401 to %s, with a challenge, and nothing is started', async (_what, headers) => {
    const { port, pool, failures } = await openScene((_req, res) => res.end('ok'), { authorize: bearerToken(tokens) })
    const response = await get(port, '/', headers)
    expect([response.status, response.headers.get('www-authenticate')]).toEqual([401, 'Bearer'])
    expect(await response.json()).toMatchObject({ code: 'UNAUTHORIZED' })
    expect(pool.acquired).toEqual([])
    expect(failures).toMatchObject([{ code: 'UNAUTHORIZED', status: 401 }])
  })

  test.each([
    [alice, bob],
    [alice, alice],
  ])('answers 401 to more than one field', async (first, second) => {
    const { port, pool } = await openScene((_req, res) => res.end('ok'), { authorize: bearerToken(tokens) })
    const client = await dial(port)
    const fields = [first, second].map((token) => `Authorization: Bearer ${token}\r\n`).join('')
    client.send(`GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n${fields}\r\n`)
    expect(await client.head()).toMatch(/^HTTP\/1\.1 401 /)
    expect(pool.acquired).toEqual([])
  })

  test('keeps the token from the worker, unless told to pass it on', async () => {
    for (const forward of [false, true]) {
      const authorize = bearerToken(tokens, { forward })
      const { port } = await openScene((req, res) => res.end(req.headers.authorization ?? 'none'), { authorize })
      expect(await (await get(port, '/', bearer(alice))).text()).toBe(forward ? `Bearer ${alice}` : 'none')
    }
  })

  test('takes a map, and a function that looks tokens up', async () => {
    const lookUp = (token: string) => Promise.resolve(token === alice ? 'alice' : undefined)
    for (const source of [new Map(Object.entries(tokens)), lookUp]) {
      const { port, pool } = await openScene((_req, res) => res.end('ok'), { authorize: bearerToken(source) })
      expect((await get(port, '/', { authorization: `bearer   ${alice}` })).status).toBe(200)
      expect(pool.acquired).toEqual(['alice/red'])
    }
  })

  test.each<[string, object]>([
    ['none', {}],
    ['entry 2": expected tokens of at least 16 characters, got one of 5', { [alice]: 'alice', short: 'bob' }],
    ['entry 1": expected a principal of 1 to 256 characters, got one of 0', { [alice]: '' }],
    ['entry 2": expected a principal of 1 to 256 characters, got one of 300', { [bob]: 'b', [alice]: 'a'.repeat(300) }],
    ['got number', { [alice]: 1 }],
    ['entry 1": expected a token of letters, digits and', { 'tök-0123456789abcdef': 'alice' }],
    ['got something else', { 'of two parts 0123456789': 'alice' }],
    ['got something else', { '0123456789abcdef ': 'alice' }],
    ['got something else', { '0123456789=abcdef': 'alice' }],
  ])('refuses tables that make no sense: %s', (message, table) => {
    expect(() => bearerToken(table as Record<string, string>)).toThrow(message)
  })

  test.each([
    ['"bearerToken(options).forwrd"', { forwrd: true }],
    ['"bearerToken(options).forward": expected a boolean', { forward: 'yes' }],
  ])('refuses options that make no sense: %s', (message, options) => {
    expect(() => bearerToken({ [alice]: 'alice' }, options as object)).toThrow(message)
  })
})

describe('trustedHeader', () => {
  const header = (options?: Parameters<typeof trustedHeader>[1]) => trustedHeader('X-Forwarded-User', options)

  test('takes the principal from a proxy on this machine', async () => {
    const { port, pool } = await openScene((_req, res) => res.end('ok'), { authorize: header() })
    expect((await get(port, '/', { 'x-forwarded-user': 'alice@example.org' })).status).toBe(200)
    expect(pool.acquired).toEqual(['alice%40example.org/red'])
  })

  test.each([
    ['of another address', { proxies: ['10.0.0.0/8', '127.0.0.2', '::1'] }, 'X-Forwarded-User: alice'],
    ['that sends none', {}, 'X-Other: alice'],
    ['that sends an empty one', {}, 'X-Forwarded-User:'],
    ['that lets the client’s through', {}, 'X-Forwarded-User: root\r\nX-Forwarded-User: alice'],
    ['that sends a name beyond all bounds', {}, `X-Forwarded-User: ${'a'.repeat(257)}`],
  ])('refuses a peer %s', async (_what, options, line) => {
    const { port, pool } = await openScene((_req, res) => res.end('ok'), { authorize: header(options) })
    const client = await dial(port)
    client.send(`GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n${line}\r\n\r\n`)
    const head = await client.head()
    expect(head).toMatch(/^HTTP\/1\.1 401 /)
    // Of no use to anybody would be to ask for a token.
    expect(head).toMatch(/^www-authenticate: TrustedHeader\r$/im)
    expect(pool.acquired).toEqual([])
  })

  test('reaches the worker as the proxy sent it, whatever the client has the proxy pass on', async () => {
    const told = signal<string[]>()
    const authorize = trustedHeader('X-User')
    const { port } = await openScene(
      (req, res) => {
        told.resolve(req.rawHeaders)
        res.end('ok')
      },
      { authorize },
    )
    const client = await dial(port)
    client.send(
      'GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nX-User: alice\r\nx_user: root\r\nX_Session-Id: blue\r\n' +
        'X.User: root\r\nX-Session.Id: blue\r\nx_other: kept\r\nX-Hop: 1\r\nConnection: X-User, X-Session-Id, X-Hop\r\n\r\n',
    )
    const headers = (await told.promise).join('\n')
    expect(headers).toContain('X-User\nalice')
    expect(headers).toContain('X-Session-Id\nred')
    expect(headers).toContain('x_other\nkept')
    expect(headers).not.toMatch(/x_user|X_Session|X\.User|X-Session\.Id|X-Hop/)
  })

  test.each([false, true])(
    'reaches the worker, with trustForwarded %s, when it is an X-Forwarded- one',
    async (trustForwarded) => {
      const told = signal<IncomingHttpHeaders>()
      const { port } = await openScene(
        (req, res) => {
          told.resolve(req.headers)
          res.end('ok')
        },
        { authorize: header(), trustForwarded },
      )
      await get(port, '/', {
        'x-forwarded-user': 'alice',
        'x-forwarded-email': 'alice@example.org',
        x_forwarded_user: 'root',
      })
      expect(await told.promise).toMatchObject({ 'x-forwarded-user': 'alice' })
      expect(await told.promise).not.toHaveProperty('x_forwarded_user')
      expect('x-forwarded-email' in (await told.promise)).toBe(trustForwarded)
    },
  )

  test('that is one of those which the gateway makes anew comes once', async () => {
    const told = signal<string[]>()
    const { port } = await openScene(
      (req, res) => {
        told.resolve(req.rawHeaders)
        res.end('ok')
      },
      { authorize: trustedHeader('X-Forwarded-For') },
    )
    await get(port, '/', { 'x-forwarded-for': '203.0.113.9' })
    const raw = await told.promise
    expect(raw.filter((_value, i) => raw[i - 1]?.toLowerCase() === 'x-forwarded-for')).toEqual(['127.0.0.1'])
  })

  test('and none that a worker could take for it, when it is not spelled with hyphens itself', async () => {
    const told = signal<string[]>()
    const { port } = await openScene(
      (req, res) => {
        told.resolve(req.rawHeaders)
        res.end('ok')
      },
      { authorize: trustedHeader('x_user') },
    )
    const client = await dial(port)
    client.send(
      'GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nX_User: alice\r\nX-User: root\r\nX-Other: kept\r\n\r\n',
    )
    const headers = (await told.promise).join('\n')
    expect(headers).toContain('X_User\nalice')
    expect(headers).toContain('X-Session-Id\nred')
    expect(headers).toContain('X-Other\nkept')
    expect(headers).not.toContain('root')
  })

  test('refuses an option that it does not know', () => {
    expect(() => header({ proxys: ['10.0.0.1'] } as object)).toThrow('"trustedHeader(options).proxys"')
  })

  test.each(['10.0.0.0/33', '10.0.0', '::/129', 'proxy.example.org', '10.0.0.0/x'])(
    'refuses the network %j',
    (entry) => {
      expect(() => header({ proxies: [entry] })).toThrow(JSON.stringify(entry))
    },
  )
})

describe('an authoriser of one’s own', () => {
  test.each<[string, Authorizer, number, string]>([
    ['returns nothing', () => undefined, 401, 'UNAUTHORIZED'],
    ['resolves to nothing', async () => null, 401, 'UNAUTHORIZED'],
    [
      'throws a status',
      () => {
        throw new HTTPError({ status: 403 })
      },
      403,
      'REQUEST_REFUSED',
    ],
    ['rejects with a status', async () => Promise.reject(new HTTPError({ status: 402 })), 402, 'REQUEST_REFUSED'],
    [
      'throws',
      () => {
        throw new Error('database gone')
      },
      500,
      'INTERNAL_ERROR',
    ],
    ['rejects', async () => Promise.reject(new Error('database gone')), 500, 'INTERNAL_ERROR'],
    ['returns what is no name', () => ({ id: 'alice' }) as unknown as string, 500, 'INTERNAL_ERROR'],
    ['returns an empty name', async () => '', 500, 'INTERNAL_ERROR'],
    ['returns a name without end', () => 'x'.repeat(257), 500, 'INTERNAL_ERROR'],
  ])('that %s', async (_what, authorize, status, code) => {
    const { port, pool, failures } = await openScene((_req, res) => res.end('ok'), { authorize })
    const response = await get(port, '/')
    expect(response.status).toBe(status)
    expect(failures).toMatchObject([{ code, status, cause: expect.anything() as unknown }])
    const body = await response.text()
    expect(JSON.parse(body)).toMatchObject({ code })
    expect(body).not.toContain('database')
    expect(pool.acquired).toEqual([])
  })

  test.each<[string, readonly string[], string]>([
    ['a request', [], ''],
    ['a request of which workers do not get it', ['authorization'], ''],
    ['a handshake', [], handshake],
  ])('is not believed when Authorization comes twice with %s: 400', async (_what, consumes, more) => {
    const authorize = Object.assign((req: IncomingMessage) => req.headers.authorization, { consumes })
    const { port, pool, failures } = await openScene((_req, res) => res.end('ok'), { authorize })
    const client = await dial(port)
    client.send(
      `GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n${more}Authorization: alice\r\nauthorization: bob\r\n\r\n`,
    )
    expect(await client.head()).toMatch(/^HTTP\/1\.1 400 /)
    expect(pool.acquired).toEqual([])
    expect(failures).toMatchObject([{ code: 'REQUEST_INVALID' }])
  })

  test('says by which scheme it wants to be convinced', async () => {
    const authorize = Object.assign(() => undefined, { challenge: 'Basic realm="x"' })
    const { port } = await openScene(() => {}, { authorize })
    expect((await get(port, '/')).headers.get('www-authenticate')).toBe('Basic realm="x"')
  })

  test('is not asked about ids that are malformed', async () => {
    let asked = 0
    const { port } = await openScene(() => {}, { authorize: () => `user${asked++}` })
    expect((await get(port, '/', { 'x-session-id': 'no good' })).status).toBe(400)
    expect(asked).toBe(0)
  })

  test('a client that leaves while it thinks gets no worker', async () => {
    const [asked, decided] = [signal(), signal<string>()]
    const { port, pool, gateway } = await openScene(() => {}, {
      authorize: () => {
        asked.resolve()
        return decided.promise
      },
    })
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
    await asked.promise
    client.socket.destroy()
    await once(client.socket, 'close')
    // The gateway has heard of it by the time that another connection is answered.
    const other = await dial(port)
    other.send('OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n')
    await other.head()
    decided.resolve('alice')
    await decided.promise
    expect([pool.acquired, gateway.stats().requests]).toEqual([[], 0])
  })
})
