import { describe, expect, test } from 'vitest'
import type { GatewayFailure } from 'corral/h3'
import { maxInformation } from '../../../../src/adapters/h3/information.ts'
import { signal } from '../_scene.ts'
import type { RawConnection } from '../_scene.ts'
import { expectInStep, expectRefusal, forwarded, openStage, request, response } from './_stage.ts'

const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='
const upgrade = ['Connection: Upgrade', 'Upgrade: websocket']
const handshake = request('GET /first HTTP/1.1', [...upgrade, key])

describe('a request to upgrade', () => {
  test.each<[string, string]>([
    ['without a key', request('GET / HTTP/1.1', upgrade)],
    ['with an empty key', request('GET / HTTP/1.1', [...upgrade, 'Sec-WebSocket-Key:'])],
    ['with a short key', request('GET / HTTP/1.1', [...upgrade, 'Sec-WebSocket-Key: dGhlIHNhbXBsZQ=='])],
    ['with a long key', request('GET / HTTP/1.1', [...upgrade, 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWQ='])],
    [
      'with a key that is not base64',
      request('GET / HTTP/1.1', [...upgrade, 'Sec-WebSocket-Key: dGhl_HNhbXBsZSBub25jZQ==']),
    ],
    [
      'with bits behind the key',
      request('GET / HTTP/1.1', [...upgrade, 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==']),
    ],
    ['with two keys', request('GET / HTTP/1.1', [...upgrade, key, key])],
    ['that is no GET', request('POST / HTTP/1.1', [...upgrade, key])],
    ['with a body', request('GET / HTTP/1.1', [...upgrade, key, 'Content-Length: 3'], 'abc')],
    ['with a body of chunks', request('GET / HTTP/1.1', [...upgrade, key, 'Transfer-Encoding: chunked'], '0\r\n\r\n')],
    ['that is CONNECT', request('CONNECT a:80 HTTP/1.1')],
    ['that is CONNECT, with early bytes', `${request('CONNECT a:80 HTTP/1.1')}${handshake}`],
  ])('%s: 400, and costs no worker', async (_name, text) => {
    const stage = await openStage()
    stage.client.send(text)
    await expectRefusal(stage, 400, 'UPGRADE_INVALID')
    expect(stage.pool.acquired).toEqual([])
    expect(stage.got).toEqual([])
  })

  test('that expects something: 417, and costs no worker', async () => {
    const stage = await openStage()
    stage.client.send(request('GET / HTTP/1.1', [...upgrade, key, 'Expect: more']))
    await expectRefusal(stage, 417, 'EXPECTATION_UNSUPPORTED')
    expect(stage.pool.acquired).toEqual([])
    expect(stage.got).toEqual([])
  })

  test.each<[string, string[]]>([
    ['to h2c', ['Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA']],
    ['to one of several protocols', ['Connection: Upgrade', 'Upgrade: websocket, h2c']],
    ['to TLS', ['Connection: Upgrade', 'Upgrade: TLS/1.0']],
    ['that Connection does not name', ['Upgrade: websocket']],
  ])('%s is served as the request that it is', async (_name, fields) => {
    const stage = await openStage()
    stage.client.send(request('POST /first HTTP/1.1', [...fields, 'Content-Length: 3'], 'abc'))
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'POST /first' })
    expect(stage.got).toEqual([
      forwarded(stage, { line: 'POST /first HTTP/1.1', framing: 'content-length: 3', body: 'abc' }),
    ])
    await expectInStep(stage)
  })

  test('of HTTP/1.0 is ignored', async () => {
    const stage = await openStage()
    stage.client.send(handshake.replace('HTTP/1.1', 'HTTP/1.0'))
    expect(await stage.client.rest()).toMatch(/^HTTP\/1\.1 200 [^]*\r\n\r\nGET \/first$/)
    expect(stage.got).toEqual([forwarded(stage, { line: 'GET /first HTTP/1.1', fields: [key] })])
  })

  test('that is refused takes what came behind it along', async () => {
    const stage = await openStage()
    stage.client.send(request('GET / HTTP/1.1', upgrade) + request('GET /smuggled HTTP/1.1'))
    await expectRefusal(stage, 400, 'UPGRADE_INVALID')
    expect(stage.got).toEqual([])
  })

  test('that the worker refuses takes what came behind it along', async () => {
    const stage = await openStage()
    stage.client.send(handshake + request('GET /smuggled HTTP/1.1'))
    expect(await stage.client.rest()).toMatch(/^HTTP\/1\.1 200 [^]*\r\n\r\nGET \/first$/)
    expect(stage.got.join('')).not.toContain('smuggled')
    expect(await stage.pool.idle()).toBe(0)
  })
})

describe('a worker that answers a handshake', () => {
  const accepted = 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n'

  test.each<[string, string]>([
    ['with status 000', 'HTTP/1.1 000 None\r\nContent-Length: 0\r\n\r\n'],
    ['with status 099', 'HTTP/1.1 099 Few\r\nContent-Length: 0\r\n\r\n'],
    ['with 101 and no protocol', 'HTTP/1.1 101 Switching Protocols\r\n\r\nsecret'],
    ['with 101 and another protocol', accepted.replace('websocket', 'h2c')],
    [
      'with 101 and two lengths',
      accepted.replace('\r\n\r\n', '\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n'),
    ],
    ['with a head beyond 16 KiB', accepted.replace('\r\n\r\n', `\r\nX: ${'a'.repeat(16 * 1024)}\r\n\r\n`)],
    [
      'with a transfer coding that nobody asked for',
      'HTTP/1.1 403 No\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n',
    ],
    ['with bare LF', accepted.replaceAll('\r\n', '\n')],
    ['with another protocol', 'SSH-2.0-secret\r\n'],
    ['with half a head', 'HTTP/1.1 101 Swi'],
    ['with nothing', ''],
  ])('%s: 502', async (_name, answer) => {
    const stage = await openStage((worker) => {
      worker.send(answer)
      worker.socket.end()
    })
    stage.client.send(handshake)
    await expectRefusal(stage, 502, 'UPSTREAM_FAILED')
  })

  test('with a reason that no head can carry: the client gets the usual one', async () => {
    const stage = await openStage((worker) => worker.send('HTTP/1.1 403 a\x01b\r\nContent-Length: 2\r\n\r\nno'))
    stage.client.send(handshake)
    expect(await stage.client.rest()).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n[^]*\r\n\r\nno$/)
  })

  test('with 101 and a reason that no head can carry: the client gets the usual one', async () => {
    const stage = await openStage((worker) => worker.send(accepted.replace('Switching Protocols', 'a\x01b')))
    stage.client.send(handshake)
    expect(await stage.client.head()).toBe(accepted)
    stage.client.socket.destroy()
  })

  test('with 101 and a length: the client gets none, as there is nothing that it could be of', async () => {
    const stage = await openStage((worker) =>
      worker.send(`${accepted.replace('\r\n\r\n', '\r\nContent-Length: 3\r\nX-A: 1\r\n\r\n')}early`),
    )
    stage.client.send(handshake)
    expect(await stage.client.head()).toBe(accepted.replace('\r\n\r\n', '\r\nX-A: 1\r\n\r\n'))
    expect(await stage.client.takeBytes(5)).toBe('early')
    stage.client.socket.destroy()
  })

  test('with a thousand fields and more: all of them arrive', async () => {
    const answer = accepted.replace('\r\n', `\r\n${'X: 1\r\n'.repeat(1500)}`)
    const stage = await openStage((worker) => worker.send(answer))
    stage.client.send(handshake)
    expect(await stage.client.head()).toBe(answer)
    stage.client.socket.destroy()
  })

  test('with hints before it: the hints are left out', async () => {
    const stage = await openStage((worker) =>
      worker.send(`HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${accepted}`),
    )
    stage.client.send(handshake)
    expect(await stage.client.head()).toBe(accepted)
    stage.client.socket.destroy()
  })

  test('with 100 informational responses before it: the client gets it', async () => {
    const stage = await openStage((worker) =>
      worker.send('HTTP/1.1 199 What\r\n\r\n'.repeat(maxInformation) + accepted),
    )
    stage.client.send(handshake)
    expect(await stage.client.head()).toBe(accepted)
    stage.client.socket.destroy()
  })

  test.each<[string, string]>([
    ['of status 102, and 101', `HTTP/1.1 102 What\r\n\r\n#${accepted}`],
    ['of status 102, and 403', `HTTP/1.1 102 What\r\n\r\n#HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n`],
    ['of status 103', 'HTTP/1.1 103 What\r\n\r\n#'],
    ['of status 199, and 101', `HTTP/1.1 199 What\r\n\r\n#${accepted}`],
  ])('with more than 100 responses %s: 502, and it is read no more', async (_name, answers) => {
    const [information = '', then = ''] = answers.split('#')
    let flooded: Promise<unknown> | undefined
    const failures: GatewayFailure[] = []
    const stage = await openStage(
      (worker) => {
        worker.send(information.repeat(maxInformation + 1) + then)
        flooded = worker.rest()
        return flooded
      },
      { onError: (failure) => failures.push(failure) },
    )
    stage.client.send(handshake)
    const answer = await response(stage.client)
    expect([answer.status, JSON.parse(answer.body).code]).toEqual([502, 'UPSTREAM_FAILED'])
    expect(failures).toMatchObject([
      { code: 'UPSTREAM_FAILED', cause: { message: 'The worker sent more than 100 informational responses' } },
    ])
    await flooded
    await stage.pool.until(() => stage.pool.open === 0)
  })

  test('with a refusal that is longer than it says: the client gets what it says', async () => {
    const stage = await openStage((worker) => worker.send('HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nnosecret'))
    stage.client.send(handshake)
    expect(await stage.client.rest()).toMatch(/\r\n\r\nno$/)
  })

  test('with a refusal that is shorter than it says: the client is cut', async () => {
    const stage = await openStage((worker) => {
      worker.send('HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nno')
      worker.socket.end()
    })
    stage.client.send(handshake)
    const answer = await stage.client.rest()
    expect(answer).toMatch(/^HTTP\/1\.1 403 No\r\nContent-Length: 9\r\n/)
    expect(answer).toMatch(/\r\n\r\nno$/)
  })

  test('with a redirect to its own address: the client gets a path', async () => {
    const stage = await openStage((worker, text) => {
      const host = /^host: (.*)\r$/im.exec(text)?.[1]
      worker.send(`HTTP/1.1 302 Found\r\nLocation: http://${host}/login\r\nContent-Length: 0\r\n\r\n`)
    })
    stage.client.send(handshake)
    expect(await stage.client.rest()).toContain('\r\nLocation: /login\r\n')
  })

  test('and resets the connection right away: both ends are cut', async () => {
    const reset = signal<RawConnection>()
    const stage = await openStage((worker) => {
      worker.send(accepted)
      reset.resolve(worker)
    })
    stage.client.send(handshake)
    expect(await stage.client.head()).toBe(accepted)
    ;(await reset.promise).socket.resetAndDestroy()
    expect(await stage.client.rest()).toBe('')
    expect(await stage.pool.idle()).toBe(0)
  })
})
