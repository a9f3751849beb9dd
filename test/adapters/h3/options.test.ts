import { type AddressInfo, createServer } from 'node:net'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { checkGateway, createGateway, fromHeader, problems, trustedHeader } from 'corral/h3'
import type { GatewayOptions } from 'corral/h3'
import { FakePool } from './_pool.ts'

const pool = new FakePool({ host: '127.0.0.1', port: 1 }).asPool
const sessionId = fromHeader('x-session-id')

describe('createGateway', () => {
  test.each<[string, object, string]>([
    ['sessionId', {}, 'expected a function, or a non-empty array of them, got undefined'],
    ['sessionId', { sessionId: [] }, 'expected a function, or a non-empty array of them, got []'],
    ['sessionId', { sessionId: ['x'] }, 'got "x"'],
    ['idPattern', { sessionId, idPattern: 'x' }, 'expected a RegExp, got "x"'],
    ['base', { sessionId, base: 'x' }, 'expected a plain path such as "/tools", got "x"'],
    ['base', { sessionId, base: '/a/../b' }, 'expected a plain path such as "/tools"'],
    ['host', { sessionId, host: 'drop' }, 'expected "rewrite" or "keep", got "drop"'],
    ['trustForwarded', { sessionId, trustForwarded: 0 }, 'expected a boolean, or how many proxies there are, got 0'],
    ['via', { sessionId, via: 'a b' }, 'got "a b"'],
    ['via', { sessionId, via: true }, 'got true'],
    ['retryAfter', { sessionId, retryAfter: -1 }, 'expected a whole number of milliseconds, 0 or more, got -1'],
    ['upstream.connectTimeout', { sessionId, upstream: { connectTimeout: '1s' } }, 'got "1s"'],
    ['upstream.bodyTimeout', { sessionId, upstream: { bodyTimeout: Number.NaN } }, 'got NaN'],
    [
      'upstream.timeout',
      { sessionId, upstream: { timeout: 1 } },
      'expected one of connectTimeout, sendTimeout, headersTimeout',
    ],
    ['onError', { sessionId, onError: {} }, 'expected a function, got {}'],
    ['session', { sessionId, session: 1 }, 'expected one of sessionId, idPattern'],
  ])('refuses a wrong %s: %j', (option, options, message) => {
    const make = () => createGateway(pool, options as GatewayOptions)
    expect(make).toThrow(message)
    expect(make).toThrow(expect.objectContaining({ code: 'INVALID_OPTION', option }))
  })

  test.each(['sessionId', 'idPattern', 'base', 'host', 'trustForwarded', 'via', 'retryAfter', 'upstream', 'onError'])(
    'refuses null for %s',
    (option) => {
      const make = () => createGateway(pool, { sessionId, [option]: null })
      expect(make).toThrow(expect.objectContaining({ code: 'INVALID_OPTION', option }))
    },
  )

  test('refuses null for its options and those of listen', async () => {
    const error = expect.objectContaining({ code: 'INVALID_OPTION' })
    expect(() => createGateway(pool, null as never)).toThrow(error)
    const gateway = createGateway(pool, { sessionId, upstream: { connectTimeout: undefined } })
    await expect(gateway.listen(null as never)).rejects.toThrow(error)
    await expect(gateway.listen({ port: null as never })).rejects.toThrow(error)
  })

  test.each([undefined, null, {}, 5, { acquire() {} }, Promise.resolve(pool)])('refuses %j for a pool', (wrong) => {
    const make = () => createGateway(wrong as never, { sessionId })
    expect(make).toThrow(expect.objectContaining({ code: 'INVALID_OPTION', option: 'pool' }))
  })

  test.each(['x y', 'Host', 'content-length', 'Connection', 'TE', 'cookie', 'Sec-WebSocket-Key'])(
    'refuses the header %j, which cannot name a session or a principal',
    (name) => {
      expect(() => fromHeader(name)).toThrow(expect.objectContaining({ option: 'fromHeader(name)' }))
      expect(() => trustedHeader(name)).toThrow(expect.objectContaining({ option: 'trustedHeader(name)' }))
    },
  )
})

describe('checkGateway', () => {
  test('finds what createGateway and listen would refuse, without a pool, and leaves the port free', async () => {
    const server = createServer()
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    const { port } = server.address() as AddressInfo
    await expect(checkGateway({ sessionId: [] })).rejects.toMatchObject({ option: 'sessionId' })
    await expect(checkGateway({ sessionId }, { port: -1 })).rejects.toMatchObject({ option: 'port' })
    await expect(checkGateway({ sessionId }, { port })).rejects.toMatchObject({ code: 'EADDRINUSE' })
    await promisify(server.close.bind(server))()
    const tls = { cert: '/no/such', key: '/no/such' }
    await expect(checkGateway({ sessionId }, { port, tls })).rejects.toMatchObject({ option: 'tls.cert' })
    await checkGateway({ sessionId }, { port })
    const listener = await createGateway(pool, { sessionId }).listen({ port })
    await listener.close()
  })
})

describe('problems', () => {
  test('have an error status and a WebSocket close code', () => {
    for (const { status, close, title } of Object.values(problems)) {
      expect(status).toBeGreaterThanOrEqual(400)
      expect(close).toBeGreaterThanOrEqual(1001)
      expect(close).toBeLessThan(1016)
      expect(title).not.toBe('')
    }
  })
})
