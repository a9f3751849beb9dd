import { describe, expect, test } from 'vitest'
import { fromCookie, fromHeader, fromQuery } from 'corral/h3'
import { expectInStep, expectRefusal, forwarded, openStage, request, response } from './_stage.ts'

describe('a Host', () => {
  test.each([
    'a b',
    'a, b',
    'a/b',
    'a@b',
    'user:secret@a',
    'a:b',
    'a:65536',
    '[::1]:99999999',
    '[::1',
    '[zz]',
    '[:::::]',
    '[1]',
    '[v1]',
    '%4',
    'a"b',
    'a\\b',
    'http://a',
    'a?b',
    'a#b',
    '\xe9',
  ])('%j names no host: 400', async (host) => {
    const stage = await openStage()
    stage.client.send(request('GET / HTTP/1.1').replace('Host: a', `Host: ${host}`))
    await expectRefusal(stage, 400, 'REQUEST_INVALID')
    expect(stage.pool.acquired).toEqual([])
  })

  test.each(['a.example:80', '127.0.0.1:1', '[::1]:80', '[v1.a:b]', 'a:', 'a:65535', 'a:00080', 'x%41', 'under_score'])(
    '%j names one',
    async (host) => {
      const stage = await openStage()
      stage.client.send(request('GET /first HTTP/1.1').replace('Host: a', `Host: ${host}`))
      expect(await response(stage.client)).toMatchObject({ status: 200, body: 'GET /first' })
      expect(stage.got.join('')).toContain(`\r\nX-Forwarded-Host: ${host}\r\n`)
      await expectInStep(stage)
    },
  )

  test('that is empty names none, and none is told to the worker', async () => {
    const stage = await openStage()
    stage.client.send(request('GET /first HTTP/1.1').replace('Host: a', 'Host:'))
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'GET /first' })
    expect(stage.got.join('')).not.toContain('X-Forwarded-Host')
    expect(stage.got.join('')).toContain('\r\nForwarded: for=127.0.0.1;proto=http\r\n')
  })

  test('that is missing: 400', async () => {
    const stage = await openStage()
    stage.client.send(request('GET / HTTP/1.1').replace('Host: a\r\n', ''))
    expect(await stage.client.rest()).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/)
    expect(stage.pool.acquired).toEqual([])
  })

  test('twice: 400', async () => {
    const stage = await openStage()
    stage.client.send(request('GET / HTTP/1.1', ['Host: a']))
    await expectRefusal(stage, 400, 'REQUEST_INVALID')
    expect(stage.pool.acquired).toEqual([])
  })
})

describe('a session id that would be a line of its own', () => {
  test.each<[string, string, string[]]>([
    ['in the query', '/?sid=red%0d%0aX-Admin:%201', []],
    ['in the query, by LF', '/?sid=red%0aX-Admin:%201', []],
    ['in the query, with a NUL', '/?sid=red%00', []],
    ['in a cookie', '/', ['Cookie: sid=red%0d%0aX-Admin: 1']],
    ['in a cookie, quoted', '/', ['Cookie: sid="red\tX-Admin: 1"']],
    ['in a header', '/', ['X-Id: red%0d%0aX-Admin: 1']],
    ['in a header, by spaces', '/', ['X-Id: red X-Admin: 1']],
  ])('%s: 400', async (_name, target, fields) => {
    const stage = await openStage(undefined, { sessionId: [fromQuery('sid'), fromCookie('sid'), fromHeader('x-id')] })
    stage.client.send(request(`GET ${target} HTTP/1.1`, [...fields, 'Connection: close']))
    await expectRefusal(stage, 400, 'SESSION_ID_INVALID')
    expect(stage.pool.acquired).toEqual([])
    expect(stage.failures.map(({ sessionId }) => sessionId)).toEqual([undefined])
  })
})

describe('fields', () => {
  test('of any token and any text reach the worker byte for byte', async () => {
    const fields = ["!#$%&'*+-.^`|~: 1", 'X-Obs: \x80\xff', 'X-Tab: a\tb', 'X-Empty: ', `X-Long: ${'a'.repeat(8_000)}`]
    const stage = await openStage()
    stage.client.send(request('GET /first HTTP/1.1', fields))
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'GET /first' })
    expect(stage.got).toEqual([forwarded(stage, { line: 'GET /first HTTP/1.1', fields })])
    await expectInStep(stage)
  })

  test('of the gateway cannot be taken away by Connection', async () => {
    const stage = await openStage()
    const hop = 'Connection: X-Forwarded-For, forwarded, host, connection, X-Hop'
    stage.client.send(
      request('GET /first HTTP/1.1', [hop, 'X-Hop: 1', 'X-Forwarded-For: 6.6.6.6', 'Forwarded: for=6.6.6.6']),
    )
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'GET /first' })
    expect(stage.got).toEqual([forwarded(stage, { line: 'GET /first HTTP/1.1' })])
    await expectInStep(stage)
  })

  test('that expect something unknown: 417', async () => {
    const stage = await openStage()
    stage.client.send(request('POST / HTTP/1.1', ['Expect: 200-ok', 'Connection: close', 'Content-Length: 3'], 'abc'))
    expect(await stage.client.rest()).toMatch(/^HTTP\/1\.1 417 /)
    expect(stage.pool.acquired).toEqual([])
  })
})
