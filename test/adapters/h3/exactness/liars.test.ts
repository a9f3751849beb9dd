import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { GatewayFailure } from 'corral/h3'
import { maxInformation } from '../../../../src/adapters/h3/information.ts'
import type { RawConnection } from '../_scene.ts'
import { dial, signal } from '../_scene.ts'
import { type Stage, echo, expectInStep, openStage, request, response } from './_stage.ts'

const first = request('GET /first HTTP/1.1')
const ok = 'HTTP/1.1 200 OK\r\n'
const known = `${ok}Content-Length: 2\r\n\r\n`
const chunked = `${ok}Transfer-Encoding: chunked\r\n\r\n`
/** A response that nobody asked for, to be taken for the one to the next request. */
const poison = `${ok}Content-Length: 6\r\n\r\npoison`

type Fate = 'stays' | 'ends' | 'resets'

/** A worker that answers its first request with `lie`, and the others as it should. */
async function openLiar(lie: string, fate: Fate = 'stays') {
  let lied = false
  return openStage((worker, text) => {
    if (lied) {
      echo(worker, text)
      return
    }
    lied = true
    worker.socket.write(lie, 'latin1', () => {
      if (fate === 'ends') worker.socket.end()
      if (fate === 'resets') worker.socket.resetAndDestroy()
    })
  })
}

/** That the client gets a 502 which tells nothing of the inside, and that its connection is in step. */
async function expectBadGateway(lie: string, fate?: Fate): Promise<Stage> {
  const stage = await openLiar(lie, fate)
  stage.client.send(first)
  const { status, head, body } = await response(stage.client)
  expect(status).toBe(502)
  expect(JSON.parse(body)).toMatchObject({ code: 'UPSTREAM_FAILED' })
  expect(head + body).not.toMatch(/127\.0\.0\.1|secret/)
  await expectInStep(stage)
  return stage
}

describe('a response of no certain length: 502', () => {
  test.each<[string, string[]]>([
    ['Content-Length and chunks', ['Content-Length: 2', 'Transfer-Encoding: chunked']],
    ['chunks and Content-Length', ['Transfer-Encoding: chunked', 'Content-Length: 2']],
    ['two lengths', ['Content-Length: 2', 'Content-Length: 3']],
    ['the same length twice', ['Content-Length: 2', 'Content-Length: 2']],
    ['a list of lengths', ['Content-Length: 2, 2']],
    ['a signed length', ['Content-Length: +2']],
    ['a negative length', ['Content-Length: -2']],
    ['a hexadecimal length', ['Content-Length: 0x2']],
    ['an empty length', ['Content-Length:']],
    ['a length beyond 64 bits', ['Content-Length: 18446744073709551618']],
    ['a folded length', ['Content-Length:\r\n 2']],
    ['a length with a space before the colon', ['Content-Length : 2']],
    ['chunked twice', ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked']],
    ['chunked twice in one field', ['Transfer-Encoding: chunked, chunked']],
    ['another coding', ['Transfer-Encoding: gzip, chunked']],
    ['no coding', ['Transfer-Encoding:']],
    ['the coding that means none', ['Transfer-Encoding: identity']],
  ])('%s', async (_name, fields) => {
    const { failures } = await expectBadGateway([ok.trimEnd(), ...fields, '', 'ok'].join('\r\n'), 'ends')
    expect(String(failures[0]?.cause)).toMatch(/Content-Length|transfer coding|Invalid header|Transfer-Encoding/i)
  })
})

describe('a head that is no HTTP: 502', () => {
  test.each<[string, string]>([
    ['bare LF', known.replaceAll('\r\n', '\n')],
    ['one bare LF', known.replace('\r\n', '\r\nX-A: 1\n')],
    ['a bare CR', known.replace('\r\n', '\r\nX-A: 1\rX-B: 2\r\n')],
    ['a NUL', known.replace('\r\n', '\r\nX-A: 1\0\r\n')],
    ['a control character', known.replace('\r\n', '\r\nX-A: 1\x01\r\n')],
    ['a folded line', known.replace('\r\n', '\r\nX-A: 1\r\n 2\r\n')],
    ['a space before a colon', known.replace('\r\n', '\r\nX-A : 1\r\n')],
    ['no name', known.replace('\r\n', '\r\n: 1\r\n')],
    ['no colon', known.replace('\r\n', '\r\nXA\r\n')],
    ['a CR in the reason', known.replace('OK', 'a\rb')],
    ['status 000', known.replace('200', '000')],
    ['status 99', known.replace('200', '99')],
    ['status 1000', known.replace('200', '1000')],
    ['a version that does not exist', known.replace('1.1', '1.2')],
    ['another protocol', 'SSH-2.0-secret\r\n'],
    ['HTTP/0.9', '<html>secret</html>'],
    ['more than 16 KiB', known.replace('\r\n', `\r\nX-A: ${'a'.repeat(16 * 1024)}\r\n`)],
  ])('%s', async (_name, lie) => {
    await expectBadGateway(lie)
  })
})

describe('what nobody asked for: 502, and told as what it is', () => {
  test.each<[string, string]>([
    ['100 Continue', `HTTP/1.1 100 Continue\r\n\r\n${known}ok`],
    ['101', `HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n`],
    ['101 without a protocol', `HTTP/1.1 101 Switching Protocols\r\n\r\n${known}ok`],
  ])('%s', async (_name, lie) => {
    const { failures } = await expectBadGateway(lie)
    const message = 'The worker sent 100 Continue or switched protocols, which nobody had asked for'
    expect(failures).toMatchObject([{ code: 'UPSTREAM_FAILED', cause: { message } }])
  })
})

describe('a worker that goes before the head is whole: 502', () => {
  test.each<[string, string, Fate]>([
    ['closes without a byte', '', 'ends'],
    ['closes within the head', known.slice(0, 20), 'ends'],
    ['resets without a byte', '', 'resets'],
    ['resets within the head', known.slice(0, 20), 'resets'],
  ])('%s', async (_name, lie, fate) => {
    await expectBadGateway(lie, fate)
  })

  test('closes between hints and head', async () => {
    const hints = 'HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n'
    const stage = await openLiar(hints, 'ends')
    stage.client.send(first)
    expect(await stage.client.head()).toBe(hints)
    expect((await response(stage.client)).status).toBe(502)
    await expectInStep(stage)
  })
})

describe('a body that is not whole: the client is cut', () => {
  test.each<[string, string, Fate, string]>([
    ['closed before the body', known, 'ends', ''],
    ['closed within the body', `${known}o`, 'ends', 'o'],
    ['reset within the body', `${known}o`, 'resets', 'o'],
    ['closed between chunks', `${chunked}2\r\nok\r\n`, 'ends', '2\r\nok\r\n'],
    ['closed within a chunk', `${chunked}9\r\nok`, 'ends', '2\r\nok\r\n'],
    ['closed within the last chunk', `${chunked}2\r\nok\r\n0\r\n`, 'ends', '2\r\nok\r\n'],
    ['reset between chunks', `${chunked}2\r\nok\r\n`, 'resets', '2\r\nok\r\n'],
    ['a chunk size that is no number', `${chunked}2\r\nok\r\nzz\r\n`, 'stays', '2\r\nok\r\n'],
    ['a chunk size beyond 64 bits', `${chunked}2\r\nok\r\n10000000000000002\r\n`, 'stays', '2\r\nok\r\n'],
    ['a signed chunk size', `${chunked}2\r\nok\r\n-1\r\n`, 'stays', '2\r\nok\r\n'],
    ['a chunk longer than it says', `${chunked}2\r\nok\r\n1\r\nabc\r\n0\r\n\r\n`, 'stays', '2\r\nok\r\n1\r\na\r\n'],
    ['chunks that end with bare LF', `${chunked}2\nok\n0\n\n`, 'stays', ''],
    ['a length among the trailers', `${chunked}2\r\nok\r\n0\r\nContent-Length: 6\r\n\r\n`, 'stays', '2\r\nok\r\n'],
  ])('%s', async (_name, lie, fate, body) => {
    const stage = await openLiar(lie, fate)
    stage.client.send(first)
    expect(await stage.client.head()).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
    expect(await stage.client.rest()).toBe(body)
    expect(await stage.pool.idle()).toBe(0)
  })
})

describe('bytes behind a response never become the next one', () => {
  test.each<[string, string, string, number, string]>([
    ['behind a length', 'GET', `${known}ok${poison}`, 200, 'ok'],
    ['behind a length, of no sense', 'GET', `${known}oksecret`, 200, 'ok'],
    ['behind chunks', 'GET', `${chunked}2\r\nok\r\n0\r\n\r\n${poison}`, 200, '2\r\nok\r\n0\r\n\r\n'],
    ['in answer to HEAD', 'HEAD', `${known}ok`, 200, ''],
    ['in answer to HEAD, a whole response', 'HEAD', `${known}${poison}`, 200, ''],
    ['in answer to HEAD, chunks', 'HEAD', `${chunked}2\r\nok\r\n0\r\n\r\n`, 200, ''],
    ['behind a 204', 'GET', `HTTP/1.1 204 No Content\r\n\r\n${poison}`, 204, ''],
    ['behind a 204 with a length', 'GET', 'HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok', 204, ''],
    ['behind a 204 with chunks', 'GET', `${chunked.replace('200 OK', '204 No')}2\r\nok\r\n0\r\n\r\n`, 204, ''],
    ['behind a 304', 'GET', `HTTP/1.1 304 Not Modified\r\n\r\n${poison}`, 304, ''],
    ['behind a 304 with a length', 'GET', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok', 304, ''],
    ['behind a 304 with chunks', 'GET', `${chunked.replace('200 OK', '304 No')}2\r\nok\r\n0\r\n\r\n`, 304, ''],
  ])('%s', async (_name, method, lie, status, body) => {
    const stage = await openLiar(lie)
    stage.client.send(first.replace('GET', method))
    const head = await stage.client.head()
    expect(head).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
    if (status === 204) expect(head).not.toMatch(/content-length|transfer-encoding/i)
    expect(await stage.client.takeBytes(body.length)).toBe(body)
    await expectInStep(stage)
  })

  test('and neither do they when they come later', async () => {
    let worker: RawConnection | undefined
    const stage = await openStage((connection, text) => {
      if (worker === undefined) worker = connection
      echo(connection, text)
    })
    stage.client.send(first)
    expect(await response(stage.client)).toMatchObject({ body: 'GET /first' })
    worker?.send(poison)
    // It is closed by the gateway, which has nothing to ask for.
    await worker?.rest()
    await expectInStep(stage)
  })
})

describe('interim responses', () => {
  const processing = 'HTTP/1.1 102 Processing\r\n\r\n'

  test('102 and 103 are passed on, others left out', async () => {
    const hints = 'HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n'
    const stage = await openLiar(`${processing}HTTP/1.1 104 What\r\nX-A: 1\r\n\r\n${hints}${hints}${known}ok`)
    stage.client.send(first)
    expect(await stage.client.head()).toBe(processing)
    expect(await stage.client.head()).toBe(hints)
    expect(await stage.client.head()).toBe(hints)
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'ok' })
    await expectInStep(stage)
  })

  test('bring no field of the connection, and no length', async () => {
    const hints =
      'HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\n'
    const stage = await openLiar(`${hints}Content-Length: 5\r\nX-A: 1\r\n\r\n${known}ok`)
    stage.client.send(first)
    expect(await stage.client.head()).toBe('HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nx-a: 1\r\n\r\n')
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'ok' })
  })

  test('are not for HTTP/1.0', async () => {
    const stage = await openLiar(`HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n${known}ok`)
    stage.client.send(first.replace('HTTP/1.1', 'HTTP/1.0'))
    expect(await stage.client.rest()).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\nok$/)
  })

  test('do not pile up for a client that takes none', async () => {
    const hint = `HTTP/1.1 103 Early Hints\r\nLink: </${'a'.repeat(600)}>; rel=preload\r\n\r\n`
    const flooded = signal<RawConnection>()
    const stage = await openStage((worker) => {
      worker.socket.write(hint.repeat(maxInformation), () => flooded.resolve(worker))
    })
    const accepted = once(stage.listener.server, 'connection') as Promise<[Socket]>
    const client = await dial(stage.port)
    const [gatewayEnd] = await accepted
    gatewayEnd.cork()
    client.send(first)
    const worker = await flooded.promise
    worker.send(`${ok}Content-Length: 2\r\n\r\nok`)
    await stage.pool.until(() => stage.pool.open === 0)
    expect(gatewayEnd.writableLength).toBeLessThan(gatewayEnd.writableHighWaterMark + 2048)
    gatewayEnd.uncork()
    await client.take('\r\n\r\nok')
  })

  test.each<[string, string]>([
    ['100 of them', 'HTTP/1.1 199 What\r\n\r\n'],
    ['100 of them with fields', `HTTP/1.1 103 Early Hints\r\n${'X-A: 1\r\n'.repeat(10)}\r\n`],
  ])('%s are taken', async (_name, information) => {
    const stage = await openLiar(`${information.repeat(maxInformation)}${known}ok`)
    stage.client.send(first)
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'ok' })
    await expectInStep(stage)
  })

  test.each<[string, string]>([
    ['that are passed on', processing],
    ['that are left out', 'HTTP/1.1 199 What\r\n\r\n'],
  ])('more than 100 of them, %s: 502, and the worker is read no more', async (_name, information) => {
    let flooded: Promise<unknown> | undefined
    const failures: GatewayFailure[] = []
    const stage = await openStage(
      async (worker, text) => {
        if (flooded !== undefined) {
          echo(worker, text)
          return
        }
        const flood = information.repeat(1000)
        const send = (error?: Error | null) => {
          if (!error) worker.socket.write(flood, send)
        }
        send()
        flooded = worker.rest()
      },
      { onError: (failure) => failures.push(failure) },
    )
    stage.client.send(first)
    const relayed = information === processing ? maxInformation : 0
    for (let i = 0; i < relayed; i++) expect(await stage.client.head()).toBe(processing)
    const { status, body } = await response(stage.client)
    expect([status, JSON.parse(body).code]).toEqual([502, 'UPSTREAM_FAILED'])
    expect(failures).toMatchObject([
      { code: 'UPSTREAM_FAILED', cause: { message: 'The worker sent more than 100 informational responses' } },
    ])
    await flooded
    await expectInStep(stage)
  })

  test.each<[string, string]>([
    ['of large fields', `X-A: ${'a'.repeat(8 * 1024)}\r\n`],
    ['of many fields', 'a:\r\n'.repeat(1000)],
  ])('more than 64 KiB of them, %s: 502', async (_name, fields) => {
    await expectBadGateway(`${`HTTP/1.1 199 What\r\n${fields}\r\n`.repeat(20)}${known}ok`)
  })

  test('are counted for each request of a connection anew', async () => {
    const stage = await openStage((worker, text) => {
      worker.send('HTTP/1.1 199 What\r\n\r\n'.repeat(maxInformation))
      echo(worker, text)
    })
    for (let i = 0; i < 3; i++) {
      stage.client.send(first)
      expect(await response(stage.client)).toMatchObject({ status: 200, body: 'GET /first' })
    }
    expect(stage.got).toHaveLength(1)
  })

  test.each<[string, string]>([
    ['a Link that Node would take long to refuse', `Link: </a>${';a=b'.repeat(24)}"`],
    ['a Link that is none', 'Link: /a'],
  ])('%s is left out', async (_name, link) => {
    const stage = await openLiar(
      `HTTP/1.1 103 Early Hints\r\n${link}\r\nLink: </b>; rel="preload"; as=style;crossorigin\r\n\r\n${known}ok`,
    )
    stage.client.send(first)
    expect(await stage.client.head()).toBe(
      'HTTP/1.1 103 Early Hints\r\nLink: </b>; rel="preload"; as=style;crossorigin\r\n\r\n',
    )
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'ok' })
    await expectInStep(stage)
  })

  test('may have a field by the name of what every object has', async () => {
    const stage = await openLiar(
      `HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConstructor: 1\r\nConstructor: 2\r\n\r\n${known}ok`,
    )
    stage.client.send(first)
    expect(await stage.client.head()).toBe('HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nconstructor: 1,2\r\n\r\n')
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'ok' })
  })
})

describe('an older worker', () => {
  test.each<[string, string]>([
    ['HTTP/1.0 with a length', 'HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok'],
    ['HTTP/1.0 that says keep-alive', 'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok'],
    ['without a reason', 'HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok'],
    ['with a reason that no head can carry', 'HTTP/1.1 200 a\x01b\r\nContent-Length: 2\r\n\r\nok'],
    ['with empty lines before its response', `\r\n\r\n${known}ok`],
    ['with a length that begins with zeros', `${ok}Content-Length: 002\r\n\r\nok`],
    ['that would take its length away', `${ok}Connection: content-length\r\nContent-Length: 2\r\n\r\nok`],
  ])('%s is understood', async (_name, answer) => {
    const stage = await openLiar(answer)
    stage.client.send(first)
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'ok' })
    await expectInStep(stage)
  })

  test.each([
    ['UTF-8', '\xc3\xa4h'],
    ['UTF-8, of a control character', '\xc2\x85h'],
    ['Latin-1', '\xe4h'],
  ])('with a reason in %s is given the standard one', async (_name, reason) => {
    const stage = await openLiar(`HTTP/1.1 200 ${reason}\r\nContent-Length: 2\r\n\r\nok`)
    stage.client.send(first)
    expect(await stage.client.take('\r\n')).toBe('HTTP/1.1 200 OK\r\n')
  })

  test('that sends its head byte by byte is understood', async () => {
    const stage = await openStage(async (worker) => {
      worker.socket.setNoDelay(true)
      for (const byte of 'HTTP/1.1 404 Not Found\r\nX-Slow: all of it\r\nContent-Length: 2\r\n\r\nok') {
        worker.send(byte)
        await delay(1)
      }
    })
    stage.client.send(first)
    const { head, body } = await response(stage.client)
    expect([head.split('\r\n', 1)[0], body]).toEqual(['HTTP/1.1 404 Not Found', 'ok'])
    expect(head).toContain('X-Slow: all of it')
  })

  test.each<[string, string, Fate, string]>([
    ['that ends its body by closing', `${ok}\r\nok`, 'ends', '2\r\nok\r\n0\r\n\r\n'],
    [
      'HTTP/1.0 that sends chunks',
      `${chunked.replace('1.1', '1.0')}2\r\nok\r\n0\r\n\r\n`,
      'ends',
      '2\r\nok\r\n0\r\n\r\n',
    ],
    ['with extensions of chunks', `${chunked}2;a="b"\r\nok\r\n0;c\r\n\r\n`, 'stays', '2\r\nok\r\n0\r\n\r\n'],
    [
      'with trailers that are none',
      `${chunked}2\r\nok\r\n0\r\nHost: a\r\nSet-Cookie: a\r\nLocation: http://127.0.0.1/\r\nX-A: 1\r\n\r\n`,
      'stays',
      '2\r\nok\r\n0\r\nX-A: 1\r\n\r\n',
    ],
  ])('%s: the client gets chunks of the gateway', async (_name, answer, fate, body) => {
    const stage = await openLiar(answer, fate)
    stage.client.send(first)
    expect(await stage.client.head()).toContain('\r\nTransfer-Encoding: chunked\r\n')
    expect(await stage.client.takeBytes(body.length)).toBe(body)
    await expectInStep(stage)
  })
})
