import type { IncomingMessage } from 'node:http'
import { describe, expect, test } from 'vitest'
import { createPool } from 'corral'
import { createGateway, fromHeader } from 'corral/h3'
import { FakeBackend } from '../../support/fake-backend.ts'
import { settled } from '../../support/virtual-clock.ts'
import { dial } from '../h3/_scene.ts'
import { bearer, openAdmin, serveAdmin } from './_admin.ts'

describe('health', () => {
  test('/healthz answers while the process lives, without a pool too', async () => {
    const { stranger } = await serveAdmin(() => undefined, {})
    expect(await stranger('GET', '/healthz')).toMatchObject({ status: 200, json: { status: 'ok' } })
  })

  test('/readyz fails while there is no pool', async () => {
    const { stranger } = await serveAdmin(() => undefined, {})
    expect(await stranger('GET', '/readyz')).toMatchObject({ status: 503, json: { status: 'unready' } })
  })

  test('/readyz fails before the pool drains, when the program says so', async () => {
    let ready = true
    const { stranger } = await openAdmin({ isReady: () => ready })
    expect(await stranger('GET', '/readyz')).toMatchObject({ status: 200, json: { status: 'ready' } })
    ready = false
    expect(await stranger('GET', '/readyz')).toMatchObject({ status: 503 })
  })

  test('/readyz waits for a program that has to find out', async () => {
    let find = async () => true
    const { stranger, errors } = await openAdmin({ isReady: () => find() })
    expect(await stranger('GET', '/readyz')).toMatchObject({ status: 200 })
    find = async () => false
    expect(await stranger('GET', '/readyz')).toMatchObject({ status: 503 })
    find = () => Promise.reject(new Error('nobody knows'))
    expect(await stranger('GET', '/readyz')).toMatchObject({ status: 500 })
    expect(errors).toMatchObject([{ message: 'nobody knows' }])
  })

  test('/readyz fails as soon as the pool drains', async () => {
    const { pool, stranger, acquire } = await openAdmin()
    const lease = await acquire('red')
    const drained = pool.drain()
    expect(await stranger('GET', '/readyz')).toMatchObject({ status: 503 })
    expect(await stranger('GET', '/healthz')).toMatchObject({ status: 200 })
    lease.release()
    await drained
  })

  test('/stats are those of the pool', async () => {
    const { pool, stranger, acquire } = await openAdmin()
    using lease = await acquire('red')
    expect(lease.session.id).toBe('red')
    expect(await stranger('GET', '/stats')).toMatchObject({ status: 200, json: pool.stats() })
  })

  test('/stats have those of the gateway, where there is one', async () => {
    const { pool } = await openAdmin()
    const gateway = createGateway(pool, { sessionId: fromHeader('x') })
    for (const source of [gateway, () => gateway]) {
      const { stranger } = await serveAdmin(pool, { gateway: source })
      expect((await stranger('GET', '/stats')).json).toMatchObject({ gateway: { requests: 0, webSockets: 0 } })
    }
    const { stranger } = await serveAdmin(pool, { gateway: () => undefined })
    expect((await stranger('GET', '/stats')).json).not.toHaveProperty('gateway')
  })

  test.each(['/stats', '/sessions', '/workers', '/sessions/red', '/workers/w1'])(
    '%s answers 503 while there is no pool',
    async (path) => {
      const { call } = await serveAdmin(() => undefined, {})
      expect(await call('GET', path)).toMatchObject({ status: 503, json: { code: 'POOL_STARTING' } })
    },
  )
})

describe('sessions', () => {
  test('are listed with state, age and connections', async () => {
    const { call, acquire } = await openAdmin()
    const [one, two] = [await acquire('red'), await acquire('red')]
    const blue = await acquire('blue', { tenant: 'acme' })
    blue.release()
    const { json } = await call('GET', '/sessions')
    expect(json['sessions']).toMatchObject([
      { id: 'red', workerId: expect.any(String), state: 'active', connections: 2 },
      {
        id: 'blue',
        workerId: expect.any(String),
        state: 'idle',
        connections: 0,
        tenant: 'acme',
        idleFor: expect.any(Number),
      },
    ])
    one.release()
    two.release()
  })

  test('have a path each, with the id percent-encoded', async () => {
    const { call, acquire } = await openAdmin()
    for (const id of ['a/b', 'a%2Fb', '%41', 'é ü', '?#', 'a+b']) {
      using lease = await acquire(id)
      expect(lease.session.id).toBe(id)
      expect(await call('GET', `/sessions/${encodeURIComponent(id)}`)).toMatchObject({ status: 200, json: { id } })
      lease.release()
      expect(await call('DELETE', `/sessions/${encodeURIComponent(id)}`)).toMatchObject({ status: 204, text: '' })
    }
  })

  test('end with DELETE: their next request begins a new one', async () => {
    const { pool, call, acquire } = await openAdmin()
    const lease = await acquire('red')
    lease.release()
    expect(await call('DELETE', '/sessions/red')).toMatchObject({ status: 204 })
    expect(pool.sessions()).toEqual([])
    expect(await call('DELETE', '/sessions/red')).toMatchObject({ status: 404, json: { code: 'SESSION_UNKNOWN' } })
    using next = await acquire('red')
    expect(next.session.token).not.toBe(lease.session.token)
  })

  test('with an open connection are given their grace before DELETE answers', async () => {
    const { call, acquire, clock } = await openAdmin({}, { session: { grace: 1_000 } })
    const lease = await acquire('red')
    const ended = call('DELETE', '/sessions/red')
    // The request has arrived when the session is closing.
    while (((await call('GET', '/sessions/red')).json['state'] as string) !== 'closing');
    expect(lease.signal.aborted).toBe(false)
    await clock.advance(1_000)
    expect(await ended).toMatchObject({ status: 204 })
    expect(lease.signal.aborted).toBe(true)
    lease.release()
  })

  test.each(['/sessions/unknown', '/sessions/%2e%2e%2f', '/sessions/%00'])('%s is 404', async (path) => {
    const { call } = await openAdmin()
    expect(await call('GET', path)).toMatchObject({ status: 404, json: { code: 'SESSION_UNKNOWN' } })
    expect(await call('DELETE', path)).toMatchObject({ status: 404, json: { code: 'SESSION_UNKNOWN' } })
  })

  test.each(['/sessions/%zz', '/sessions/%ff'])('%s is no path at all', async (path) => {
    const { call } = await openAdmin()
    expect(await call('DELETE', path)).toMatchObject({ status: 400, json: { code: 'REQUEST_INVALID' } })
  })
})

describe('workers', () => {
  test('are listed with state, age, address and session', async () => {
    const { call, acquire } = await openAdmin({}, { size: { min: 2, max: 2 } })
    using lease = await acquire('red')
    const { json } = await call('GET', '/workers')
    const [leased, other] = (json['workers'] as { state: string }[]).toSorted((a, b) => (a.state < b.state ? 1 : -1))
    const { id, pid } = lease.worker
    expect(leased).toMatchObject({ id, pid, state: 'leased', sessionId: 'red', age: expect.any(Number) })
    expect(other).toMatchObject({ state: 'healthy', address: expect.stringMatching(/^127\.0\.0\.1:2000\d$/) })
    expect(JSON.stringify(json)).not.toContain('output')
  })

  test('have a path each, with the last lines that they wrote', async () => {
    const { call, backend } = await openAdmin()
    backend.worker('w1').lines = ['starting', 'listening']
    expect(await call('GET', '/workers/w1')).toMatchObject({ status: 200, json: { output: ['starting', 'listening'] } })
    expect(await call('GET', '/workers/w9')).toMatchObject({ status: 404, json: { code: 'WORKER_UNKNOWN' } })
  })

  test('that start have no process yet', async () => {
    const backend = new FakeBackend({ launches: false })
    const starting = createPool({ worker: backend, size: { min: 0, max: 1 } })
    const pool = await starting
    const { call } = await serveAdmin(pool, {})
    const waiting = pool.acquire('red')
    waiting.catch(() => {})
    await settled()
    const { json } = await call('GET', '/workers')
    const [worker] = json['workers'] as object[]
    expect(worker).toMatchObject({ id: 'w1', state: 'spawning' })
    for (const absent of ['pid', 'address', 'sessionId']) expect(worker).not.toHaveProperty(absent)
    backend.letGo()
    await pool.close()
  })

  test('drain: the session gets until the deadline, then another worker takes the place', async () => {
    const { call, acquire, clock, pool } = await openAdmin()
    const lease = await acquire('red')
    const answer = await call('POST', '/workers/w1/drain', { body: { deadline: 700 } })
    expect(answer).toMatchObject({ status: 202, json: { id: 'w1', state: 'leased' } })
    expect((await call('GET', '/sessions/red')).json).toMatchObject({ state: 'closing' })
    await clock.advance(699)
    expect(lease.signal.aborted).toBe(false)
    await clock.advance(1)
    expect(lease.signal.aborted).toBe(true)
    lease.release()
    await settled()
    expect(await call('GET', '/workers/w1')).toMatchObject({ status: 404 })
    expect(pool.workers().map(({ id, state }) => [id, state])).toEqual([['w2', 'healthy']])
  })

  test('drain without a body too', async () => {
    const { call } = await openAdmin()
    expect(await call('POST', '/workers/w1/drain')).toMatchObject({ status: 202 })
    expect(await call('POST', '/workers/w9/drain')).toMatchObject({ status: 404, json: { code: 'WORKER_UNKNOWN' } })
  })
})

describe('a request is refused when', () => {
  test.each([
    ['is not JSON', 'x', 'application/json', 400, 'BODY_INVALID'],
    ['is no object', '7', 'application/json', 400, 'BODY_INVALID'],
    ['has a field that is unknown', '{"dead":1}', 'application/json', 400, 'BODY_INVALID'],
    ['has a field that is out of range', '{"deadline":-1}', 'application/json', 400, 'BODY_INVALID'],
    ['has a field of another type', '{"deadline":"1"}', 'application/json', 400, 'BODY_INVALID'],
    ['is a form', 'deadline=1', 'application/x-www-form-urlencoded', 415, 'BODY_TYPE_UNSUPPORTED'],
    ['is JSON that does not say so', '{}', 'text/plain', 415, 'BODY_TYPE_UNSUPPORTED'],
    ['is larger than 4 KiB', ' '.repeat(4097), 'application/json', 413, 'BODY_TOO_LARGE'],
  ])('its body %s', async (_what, body, type, status, code) => {
    const { call, pool } = await openAdmin()
    for (const encoding of ['content-length', 'transfer-encoding']) {
      const framing = { [encoding]: encoding === 'content-length' ? String(body.length) : 'chunked' }
      const headers = { 'content-type': type, ...framing }
      expect(await call('POST', '/workers/w1/drain', { headers, body })).toMatchObject({ status, json: { code } })
    }
    expect(pool.stats().workers).toMatchObject({ healthy: 1, draining: 0 })
  })

  test('its body is wrong, with the field that is', async () => {
    const { call } = await openAdmin()
    const { json } = await call('POST', '/workers/w1/drain', { body: { deadline: 1.5 } })
    expect(json['detail']).toContain('deadline: ')
  })

  test.each([
    ['POST', '/sessions', 'GET, HEAD'],
    ['PUT', '/sessions/red', 'GET, HEAD, DELETE'],
    ['OPTIONS', '/sessions/red', 'GET, HEAD, DELETE'],
    ['GET', '/workers/w1/drain', 'POST'],
    ['TRACE', '/healthz', 'GET, HEAD'],
  ])('%s %s is no operation, and told which are', async (method, path, allow) => {
    const { call } = await openAdmin()
    const answer = await call(method, path)
    expect(answer).toMatchObject({ status: 405, json: { code: 'METHOD_NOT_ALLOWED' }, headers: { allow } })
  })

  test.each(['/', '/nothing', '/sessions/a/b', '//sessions', '/STATS', '/metrics/x'])(
    'there is nothing at %s',
    async (path) => {
      const { call } = await openAdmin()
      expect(await call('GET', path)).toMatchObject({ status: 404, json: { code: 'NOT_FOUND' } })
    },
  )
})

test('HEAD answers like GET, without a body', async () => {
  const { call } = await openAdmin()
  const answer = await call('HEAD', '/stats')
  expect(answer).toMatchObject({ status: 200, text: '', headers: { 'content-type': 'application/json' } })
})

test('nothing is to be cached or guessed at', async () => {
  const { call } = await openAdmin()
  for (const path of ['/stats', '/nothing', '/sessions/red']) {
    expect((await call('GET', path)).headers).toMatchObject({
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    })
  }
})

test('/metrics are those of the source, or nowhere', async () => {
  const without = await openAdmin()
  expect(await without.stranger('GET', '/metrics')).toMatchObject({ status: 404, json: { code: 'METRICS_OFF' } })
  const metrics = { contentType: 'text/plain; version=0.0.4; charset=utf-8', render: async () => 'up 1\n' }
  const { stranger } = await openAdmin({ metrics })
  const answer = await stranger('GET', '/metrics')
  expect(answer).toMatchObject({ status: 200, text: 'up 1\n', headers: { 'content-type': metrics.contentType } })
})

test('a failure inside is told to onError, and the client nothing of it', async () => {
  const failure = new Error('secret internals')
  const metrics = { contentType: 'text/plain', render: () => Promise.reject(failure) }
  const { stranger, errors } = await openAdmin({ metrics })
  const answer = await stranger('GET', '/metrics')
  expect(answer).toMatchObject({ status: 500, json: { code: 'INTERNAL_ERROR' } })
  expect(answer.text).not.toContain('secret')
  expect(errors).toEqual([failure])
})

test('a client that leaves within its body is not taken for a fault', async () => {
  const { listener, errors, stranger } = await openAdmin()
  const closed = new Promise<void>((resolve) => {
    listener.server.once('request', (req: IncomingMessage) => {
      req.once('close', resolve)
      client.socket.resetAndDestroy()
    })
  })
  const client = await dial(listener.port)
  const fields = `Host: 127.0.0.1\r\nAuthorization: ${bearer.authorization}\r\nContent-Length: 100`
  client.send(`POST /workers/w1/drain HTTP/1.1\r\n${fields}\r\n\r\n{"dead`)
  await closed
  expect(await stranger('GET', '/healthz')).toMatchObject({ status: 200 })
  expect(errors).toEqual([])
})
