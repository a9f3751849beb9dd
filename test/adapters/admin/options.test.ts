import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import type { Pool } from 'corral'
import { type AdminOptions, createAdmin } from 'corral/admin'
import { describe, expect, onTestFinished, test } from 'vitest'
import { token } from './_admin.ts'

const none = () => undefined

describe('an option is refused', () => {
  test.each<[string, unknown, string]>([
    ['token', { token: 'short' }, 'at least 16 letters'],
    ['token', { token: 'a token of many letters' }, 'at least 16 letters'],
    ['token', { token: 7 }, 'at least 16 letters'],
    ['hosts', { hosts: 'a.test' }, 'an array'],
    ['hosts', { hosts: ['a.test:80'] }, 'without ports'],
    ['isReady', { isReady: true }, 'a function'],
    ['gateway', { gateway: {} }, 'what createGateway returns'],
    ['gateway', { gateway: null }, 'what createGateway returns'],
    ['metrics', { metrics: {} }, 'what createMetrics resolves to'],
    ['metrics', { metrics: null }, 'what createMetrics resolves to'],
    ['onError', { onError: 1 }, 'a function'],
    ['tokens', { tokens: token }, 'one of token, hosts'],
  ])('%s in %j', (option, options, expected) => {
    const make = () => createAdmin(none, options as AdminOptions)
    expect(make).toThrow(`Invalid option "${option}": expected`)
    expect(make).toThrow(expected)
  })

  test.each([undefined, null, {}, 7])('a pool that is %j', (pool) => {
    expect(() => createAdmin(pool as Pool)).toThrow('Invalid option "pool": expected what createPool resolves to')
  })

  test('one that JSON cannot show', () => {
    const circular: Record<string, unknown> = {}
    circular['self'] = circular
    expect(() => createAdmin(none, { gateway: circular as never })).toThrow('got an object')
    expect(() => createAdmin(none, { isReady: 1n as never })).toThrow('got 1n')
  })

  test('a token that is wrong is not shown', () => {
    expect(() => createAdmin(none, { token: 'hunter2' })).not.toThrow('hunter2')
  })

  test.each([{ port: -1 }, { port: '80' }, { hostname: '' }, { hostname: 'a:80' }, { host: 'x' }])(
    '%j of listen',
    async (options) => {
      await expect(createAdmin(none).listen(options as object)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    },
  )
})

describe('listen', () => {
  test('is on loopback unless told otherwise', async () => {
    const listener = await createAdmin(none).listen({ port: 0 })
    onTestFinished(() => listener.close())
    expect(listener.url).toBe(`http://127.0.0.1:${listener.port}`)
    expect((listener.server.address() as AddressInfo).address).toBe('127.0.0.1')
  })

  test('writes IPv6 addresses as URLs do', async () => {
    const listener = await createAdmin(none).listen({ port: 0, hostname: '::1' })
    onTestFinished(() => listener.close())
    expect(listener.url).toBe(`http://[::1]:${listener.port}`)
    expect((await fetch(`${listener.url}/healthz`)).status).toBe(200)
  })

  test('rejects when the port is busy', async () => {
    const server = createServer()
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    onTestFinished(() => void server.close())
    const { port } = server.address() as AddressInfo
    await expect(createAdmin(none).listen({ port })).rejects.toMatchObject({
      code: 'EADDRINUSE',
      message: `Cannot listen on 127.0.0.1:${port}: the port is in use`,
    })
  })

  test('close ends what is open, and answers nothing more', async () => {
    const listener = await createAdmin(none).listen({ port: 0 })
    await fetch(`${listener.url}/healthz`)
    await listener.close()
    await expect(fetch(`${listener.url}/healthz`)).rejects.toThrow('fetch failed')
  })
})
