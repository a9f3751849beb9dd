import { describe, expect, test } from 'vitest'
import { expectInStep, expectRefusal, forwarded, openStage, request, response } from './_stage.ts'

/** What an attacker would have a worker take for a request of its own. */
const smuggled = request('GET /smuggled HTTP/1.1')
const chunks = '0\r\n\r\n'

/** A request whose length others may read differently, with another one behind it. */
function post(...fields: string[]): string {
  return request('POST /first HTTP/1.1', fields, `${chunks}${smuggled}`)
}

async function expectRefused(text: string, status: number, code: string): Promise<void> {
  const stage = await openStage()
  stage.client.send(text)
  await expectRefusal(stage, status, code)
  expect(stage.pool.acquired).toEqual([])
  expect(stage.got).toEqual([])
}

describe('two lengths', () => {
  test.each<[string, string[]]>([
    ['Content-Length before Transfer-Encoding', ['Content-Length: 6', 'Transfer-Encoding: chunked']],
    ['Transfer-Encoding before Content-Length', ['Transfer-Encoding: chunked', 'Content-Length: 6']],
    ['Content-Length twice, the same', ['Content-Length: 5', 'Content-Length: 5']],
    ['Content-Length twice, different', ['Content-Length: 5', 'Content-Length: 6']],
    ['a list of lengths', ['Content-Length: 5, 5']],
    ['Transfer-Encoding twice', ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked']],
    ['Transfer-Encoding twice, chunked not last', ['Transfer-Encoding: chunked', 'Transfer-Encoding: identity']],
    ['chunked twice in one field', ['Transfer-Encoding: chunked, chunked']],
  ])('%s: 400', async (_name, fields) => {
    await expectRefused(post(...fields), 400, 'REQUEST_MALFORMED')
  })
})

describe('a length that is no number', () => {
  test.each([
    ['signed', '+5'],
    ['negative', '-5'],
    ['hexadecimal', '0x5'],
    ['with a space in it', '5 5'],
    ['with a tab in it', '5\t5'],
    ['in quotes', '"5"'],
    ['a fraction', '5.0'],
    ['with an exponent', '5e0'],
    ['empty', ''],
    ['beyond 64 bits', '18446744073709551621'],
  ])('%s: 400', async (_name, length) => {
    await expectRefused(post(`Content-Length: ${length}`), 400, 'REQUEST_MALFORMED')
  })

  test('beyond what is counted exactly: 400', async () => {
    await expectRefused(post('Content-Length: 9007199254740993'), 400, 'REQUEST_INVALID')
  })
})

describe('a transfer coding in disguise', () => {
  test.each<[string, string, number, string]>([
    ['another name', 'Transfer-Encoding: xchunked', 501, 'TRANSFER_CODING_UNSUPPORTED'],
    ['quotes', 'Transfer-Encoding: "chunked"', 501, 'TRANSFER_CODING_UNSUPPORTED'],
    ['a parameter', 'Transfer-Encoding: chunked;q=1', 501, 'TRANSFER_CODING_UNSUPPORTED'],
    ['nothing', 'Transfer-Encoding:', 400, 'REQUEST_MALFORMED'],
    ['an empty element', 'Transfer-Encoding: , chunked', 501, 'TRANSFER_CODING_UNSUPPORTED'],
    ['another one before it', 'Transfer-Encoding: identity, chunked', 501, 'TRANSFER_CODING_UNSUPPORTED'],
    ['a vertical tab', 'Transfer-Encoding: \x0bchunked', 400, 'REQUEST_MALFORMED'],
    ['a NUL', 'Transfer-Encoding: chunked\0', 400, 'REQUEST_MALFORMED'],
    ['a line fold', 'Transfer-Encoding:\r\n chunked', 400, 'REQUEST_MALFORMED'],
    ['a space before the colon', 'Transfer-Encoding : chunked', 400, 'REQUEST_MALFORMED'],
    ['a space before the name', ' Transfer-Encoding: chunked', 400, 'REQUEST_MALFORMED'],
    ['a bare CR', 'X: y\rTransfer-Encoding: chunked', 400, 'REQUEST_MALFORMED'],
    ['a bare LF', 'X: y\nTransfer-Encoding: chunked', 400, 'REQUEST_MALFORMED'],
  ])('%s', async (_name, field, status, code) => {
    await expectRefused(post(field), status, code)
  })

  test.each(['Transfer-Encoding:\tchunked', 'Transfer-Encoding: chunked ', 'transfer-encoding: CHUNKED'])(
    '%j is plain chunked, for the worker too',
    async (field) => {
      const stage = await openStage()
      stage.client.send(request('POST /first HTTP/1.1', [field], `3\r\nabc\r\n${chunks}`))
      expect(await response(stage.client)).toMatchObject({ status: 200, body: 'POST /first' })
      expect(stage.got).toEqual([
        forwarded(stage, {
          line: 'POST /first HTTP/1.1',
          framing: 'transfer-encoding: chunked',
          body: `3\r\nabc\r\n${chunks}`,
        }),
      ])
      await expectInStep(stage)
    },
  )

  test('a tab behind it: 400, and the worker gets nothing', async () => {
    // Node's parser tells of the head before it refuses it.
    const stage = await openStage()
    stage.client.send(post('Transfer-Encoding: chunked\t'))
    await expectRefusal(stage, 400, 'REQUEST_MALFORMED')
    expect(stage.got).toEqual([])
  })

  test('in HTTP/1.0, which has none: 400', async () => {
    const text = post('Connection: keep-alive', 'Transfer-Encoding: chunked').replace('HTTP/1.1', 'HTTP/1.0')
    await expectRefused(text, 400, 'REQUEST_INVALID')
  })

  test.each([
    'Transfer_Encoding: chunked',
    'Content_Length: 0',
    'CONTENT_LENGTH: 0',
    'X_Forwarded_For: 6.6.6.6',
    'X.Forwarded.For: 6.6.6.6',
    'X-Forwarded.For: 6.6.6.6',
  ])('%j, which CGI or PHP takes for the field with hyphens, never reaches the worker', async (field) => {
    const stage = await openStage()
    stage.client.send(request('POST /first HTTP/1.1', [field, 'api_key: 1', 'a.b: 2', 'Content-Length: 3'], 'abc'))
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'POST /first' })
    expect(stage.got).toEqual([
      forwarded(stage, {
        line: 'POST /first HTTP/1.1',
        fields: ['api_key: 1', 'a.b: 2'],
        framing: 'content-length: 3',
        body: 'abc',
      }),
    ])
    await expectInStep(stage)
  })
})

describe('a length that is taken away', () => {
  test.each<[string, string[], string, string, string]>([
    ['by Connection', ['Connection: content-length', 'Content-Length: 3'], 'abc', 'content-length: 3', 'abc'],
    [
      'by Connection, of chunks',
      ['Connection: transfer-encoding', 'Transfer-Encoding: chunked'],
      '3\r\nabc\r\n0\r\n\r\n',
      'transfer-encoding: chunked',
      '3\r\nabc\r\n0\r\n\r\n',
    ],
    ['by zeros in front', ['Content-Length: 0003'], 'abc', 'content-length: 3', 'abc'],
  ])('%s: the worker gets it all the same', async (_name, fields, body, framing, sent) => {
    const stage = await openStage()
    stage.client.send(request('POST /first HTTP/1.1', fields, body))
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'POST /first' })
    expect(stage.got).toEqual([forwarded(stage, { line: 'POST /first HTTP/1.1', framing, body: sent })])
    await expectInStep(stage)
  })

  test('by more fields than Node collects: 431', async () => {
    const stage = await openStage()
    const filler = Array.from({ length: 1100 }, () => 'X:')
    stage.client.send(request('POST /first HTTP/1.1', [...filler, 'Content-Length: 3'], 'abc'))
    await expectRefusal(stage, 431, 'HEADERS_TOO_LARGE')
    expect(stage.got).toEqual([])
  })

  test('by more fields than Node collects, with an upgrade that would be ignored: 431', async () => {
    const stage = await openStage()
    const filler = Array.from({ length: 1100 }, () => 'X:')
    const fields = ['Connection: upgrade', 'Upgrade: h2c', ...filler, `Content-Length: ${smuggled.length}`]
    stage.client.send(request('POST /first HTTP/1.1', fields, smuggled))
    await expectRefusal(stage, 431, 'HEADERS_TOO_LARGE')
    expect(stage.got).toEqual([])
  })
})

describe('lines', () => {
  const head = request('GET /first HTTP/1.1', ['X-A: 1'])

  test.each<[string, string]>([
    ['that all end with a bare LF', head.replaceAll('\r\n', '\n')],
    ['of which one ends with a bare LF', head.replace('X-A: 1\r\n', 'X-A: 1\n')],
    ['of which the empty one is a bare LF', head.replace(/\r\n\r\n$/, '\r\n\n')],
    ['with a bare CR', head.replace('X-A: 1', 'X-A: 1\rX-B: 2')],
    ['that are folded', head.replace('X-A: 1', 'X-A: 1\r\n 2')],
    ['of which the first field is folded', head.replace('Host', ' X: 1\r\nHost')],
    ['with a NUL in a value', head.replace('X-A: 1', 'X-A: 1\x002')],
    ['with a NUL in a name', head.replace('X-A: 1', 'X\0A: 1')],
    ['with a control character in a value', head.replace('X-A: 1', 'X-A: 1\x01')],
    ['with no name', head.replace('X-A: 1', ': 1')],
    ['with no colon', head.replace('X-A: 1', 'XA')],
    ['with a space before the colon', head.replace('X-A: 1', 'X-A : 1')],
    ['with a method that does not exist', head.replace('GET', 'FOO')],
    ['with a method in lower case', head.replace('GET', 'get')],
    ['with a name of the protocol in lower case', head.replace('HTTP/1.1', 'http/1.1')],
    ['with a version of three digits', head.replace('HTTP/1.1', 'HTTP/11.1')],
    ['with something behind the version', head.replace('HTTP/1.1', 'HTTP/1.1x')],
    ['of another protocol', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
  ])('%s: 400', async (_name, text) => {
    await expectRefused(text, 400, 'REQUEST_MALFORMED')
  })

  test.each(['HTTP/1.2', 'HTTP/2.0', 'HTTP/3.0', 'HTTP/0.9', ''])('with the version %j: 505', async (version) => {
    await expectRefused(head.replace(/ HTTP\/1\.1/, version && ` ${version}`), 505, 'HTTP_VERSION_UNSUPPORTED')
  })

  test.each(['DESCRIBE', 'SETUP', 'PLAY'])('of RTSP, with its method %s: 505', async (method) => {
    await expectRefused(head.replace('GET', method).replace('HTTP/1.1', 'RTSP/1.0'), 505, 'HTTP_VERSION_UNSUPPORTED')
  })

  test.each([
    ['GET', 'RTSP/1.0'],
    ['POST', 'RTSP/1.1'],
    ['OPTIONS', 'RTSP/1.0'],
    ['SOURCE', 'ICE/1.0'],
  ])('with a method that HTTP has, %s, of %s: what the worker gets is HTTP', async (method, protocol) => {
    const stage = await openStage()
    stage.client.send(head.replace('GET', method).replace('HTTP/1.1', protocol))
    expect((await response(stage.client)).status).toBe(200)
    expect(stage.got.join('')).toMatch(new RegExp(`^${method} /first HTTP/1\\.1\\r\\n`))
  })

  test('of HTTP/2 by prior knowledge: 505', async () => {
    await expectRefused('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 505, 'HTTP_VERSION_UNSUPPORTED')
  })

  test.each<[string, string]>([
    ['target', request(`GET /${'a'.repeat(16 * 1024)} HTTP/1.1`)],
    ['name', request('GET / HTTP/1.1', [`${'a'.repeat(16 * 1024)}: 1`])],
    ['value', request('GET / HTTP/1.1', [`X: ${'a'.repeat(16 * 1024)}`])],
    [
      'head',
      request(
        'GET / HTTP/1.1',
        Array.from({ length: 600 }, () => `X-A: ${'b'.repeat(30)}`),
      ),
    ],
  ])('with a %s beyond 16 KiB: 431', async (_name, text) => {
    await expectRefused(text, 431, 'HEADERS_TOO_LARGE')
  })

  test('that are empty before the request line are skipped', async () => {
    const stage = await openStage()
    stage.client.send(`\r\n\r\n${request('GET /first HTTP/1.1')}`)
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'GET /first' })
    expect(stage.got).toEqual([forwarded(stage, { line: 'GET /first HTTP/1.1' })])
    await expectInStep(stage)
  })
})
