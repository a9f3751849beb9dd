import { describe, expect, test } from 'vitest'
import { fromPath } from 'corral/h3'
import { expectInStep, expectRefusal, forwarded, openStage, request, response } from './_stage.ts'

async function expectForwarded(target: string, seen = target, host = 'a'): Promise<void> {
  const stage = await openStage()
  stage.client.send(request(`GET ${target} HTTP/1.1`))
  expect(await response(stage.client)).toMatchObject({ status: 200, body: `GET ${seen}` })
  expect(stage.got).toEqual([forwarded(stage, { line: `GET ${seen} HTTP/1.1`, host })])
  await expectInStep(stage)
}

describe('a target in origin-form reaches the worker byte for byte', () => {
  test.each([
    '/a/../../b/./c',
    '/%2e%2e/%2E/a',
    '/..%2f..%5c',
    '/a%2Fb%252Fc',
    '/%00%0d%0aX:%201',
    '/?%0d%0aX:%201',
    '//evil.example/x',
    '///',
    '/;a=b/c;d',
    '/http://evil.example/',
    '/?a?b&&c=%zz',
    '/#a?b',
    '/@a:80/',
  ])('%s', (target) => expectForwarded(target))
})

describe('a target in absolute-form becomes origin-form, and its authority the host', () => {
  test.each([
    ['http://example.org', '/', 'example.org'],
    ['HTTP://EXAMPLE.org/a/../b', '/a/../b', 'EXAMPLE.org'],
    ['http://example.org?a', '/?a', 'example.org'],
    ['http://example.org/http://x/', '/http://x/', 'example.org'],
  ])('%s', (target, seen, host) => expectForwarded(target, seen, host))

  test.each(['http://user:secret@example.org/', 'http://@example.org/', 'http://a:b:c/', 'http://%/a:x'])(
    '%s names no host: 400',
    async (target) => {
      const stage = await openStage()
      stage.client.send(request(`GET ${target} HTTP/1.1`))
      // What Node's own parser makes of it differs; none of it gets to a worker.
      expect(await stage.client.rest()).toMatch(/^HTTP\/1\.1 400 /)
      expect(stage.got).toEqual([])
      expect(stage.pool.acquired).toEqual([])
    },
  )
})

describe('a target that names nothing of a worker: 400', () => {
  test.each([
    ['another scheme', 'GET ftp://example.org/ HTTP/1.1'],
    ['a scheme and nothing', 'GET http:///a HTTP/1.1'],
    ['authority-form', 'GET example.org:80 HTTP/1.1'],
    ['asterisk-form', 'GET * HTTP/1.1'],
    ['asterisk-form and more', 'OPTIONS *a HTTP/1.1'],
  ])('%s', async (_name, line) => {
    const stage = await openStage()
    stage.client.send(request(line))
    expect(await stage.client.rest()).toMatch(/^HTTP\/1\.1 400 [^]*"code":"REQUEST_(?:INVALID|MALFORMED)"/)
    expect(stage.got).toEqual([])
    expect(stage.pool.acquired).toEqual([])
  })

  test.each([
    ['nothing', 'GET  HTTP/1.1'],
    ['a relative path', 'GET a/b HTTP/1.1'],
    ['a space', 'GET /a b HTTP/1.1'],
    ['a tab', 'GET /a\tb HTTP/1.1'],
    ['a NUL', 'GET /a\0b HTTP/1.1'],
    ['a control character', 'GET /a\x01b HTTP/1.1'],
    ['a byte beyond ASCII', 'GET /a\xe9b HTTP/1.1'],
    ['a backslash in front', 'GET \\a HTTP/1.1'],
  ])('%s is no target', async (_name, line) => {
    const stage = await openStage()
    stage.client.send(request(line))
    await expectRefusal(stage, 400, 'REQUEST_MALFORMED')
    expect(stage.got).toEqual([])
  })
})

describe('OPTIONS *', () => {
  test.each<[string, string, number]>([
    ['without a host', 'OPTIONS * HTTP/1.1\r\n', 400],
    ['with two hosts', 'OPTIONS * HTTP/1.1\r\nHost: a\r\nHost: b\r\n', 400],
    ['with a host that is none', 'OPTIONS * HTTP/1.1\r\nHost: a b\r\n', 400],
    ['with two credentials', 'OPTIONS * HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nAuthorization: b\r\n', 400],
    ['of another version', 'OPTIONS * HTTP/2.0\r\nHost: a\r\n', 505],
  ])('%s is refused as any other request is', async (_what, head, status) => {
    const stage = await openStage()
    stage.client.send(`${head}\r\n`)
    expect(await stage.client.rest()).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
  })

  test('is answered by the gateway, a body dropped, and the connection in step', async () => {
    const stage = await openStage()
    stage.client.send(request('OPTIONS * HTTP/1.1', ['Content-Length: 3'], 'abc'))
    expect((await response(stage.client)).status).toBe(204)
    expect(stage.pool.acquired).toEqual([])
    await expectInStep(stage)
  })
})

describe('an id in the path', () => {
  test.each([
    ['/s/red/../blue/x', '/../blue/x'],
    ['/s/red/%2e%2e/blue/x', '/%2e%2e/blue/x'],
    ['/s/r%65d//evil.example/x', '//evil.example/x'],
    ['/s/red/s/blue/', '/s/blue/'],
  ])('%s is that of the first segment, whatever comes behind it', async (target, seen) => {
    const stage = await openStage(undefined, { sessionId: fromPath() })
    stage.client.send(request(`GET ${target} HTTP/1.1`))
    expect(await response(stage.client)).toMatchObject({ status: 200, body: `GET ${seen}` })
    expect(stage.pool.acquired).toEqual(['red'])
  })

  test.each(['/s/red%2f..%2fblue/x', '/s/red%0d%0aX:1/x', '/s/red%00/x', '/s/red%20/x', '/s/%C0%AFred/x'])(
    '%s is malformed: 400',
    async (target) => {
      const stage = await openStage(undefined, { sessionId: fromPath() })
      stage.client.send(request(`GET ${target} HTTP/1.1`, ['Connection: close']))
      await expectRefusal(stage, 400, 'SESSION_ID_INVALID')
      expect(stage.pool.acquired).toEqual([])
    },
  )

  test.each(['/x/../s/red/x', '/%73/red/x', '//s/red/x', '/S/red/x', '/s%2fred/x'])(
    '%s names no session: 400',
    async (target) => {
      const stage = await openStage(undefined, { sessionId: fromPath() })
      stage.client.send(request(`GET ${target} HTTP/1.1`, ['Connection: close']))
      await expectRefusal(stage, 400, 'SESSION_ID_MISSING')
    },
  )
})
