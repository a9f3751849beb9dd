import { once } from 'node:events'
import type { Socket } from 'node:net'
import { describe, expect, test } from 'vitest'
import type { RawConnection } from '../_scene.ts'
import { dial } from '../_scene.ts'
import { echo, expectInStep, expectRefusal, forwarded, openRawStage, openStage, request, response } from './_stage.ts'

const first = request('GET /first HTTP/1.1')

/** Sends every byte on its own. */
async function trickle({ socket }: RawConnection, text: string): Promise<void> {
  for (const byte of text) {
    await new Promise((resolve) => socket.write(byte, 'latin1', resolve))
    // For the other end to have read it.
    await new Promise(setImmediate)
  }
}

describe('a slow client', () => {
  test('with its head: the worker gets it in one piece', async () => {
    const stage = await openStage()
    await trickle(stage.client, first.slice(0, -1))
    expect(stage.pool.acquired).toEqual([])
    stage.client.send('\n')
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'GET /first' })
    expect(stage.got).toEqual([forwarded(stage, { line: 'GET /first HTTP/1.1' })])
    await expectInStep(stage)
  })

  test('with its body: the worker gets all of it, and nothing else', async () => {
    const stage = await openStage()
    await trickle(
      stage.client,
      request('POST /first HTTP/1.1', ['Content-Length: 40'], 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\nabcde'),
    )
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'POST /first' })
    expect(stage.got).toEqual([
      forwarded(stage, {
        line: 'POST /first HTTP/1.1',
        framing: 'content-length: 40',
        body: 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\nabcde',
      }),
    ])
    await expectInStep(stage)
  })

  test('whose head never ends: 408 when Node has waited long enough, and no worker is asked for', async () => {
    const stage = await openStage()
    const accepted = once(stage.listener.server, 'connection') as Promise<[Socket]>
    const client = await dial(stage.port)
    const [gatewayEnd] = await accepted
    await trickle(client, first.slice(0, 20))
    // What Node does when it next looks at its connections, which may be in half a minute.
    const late = Object.assign(new Error('Request timeout'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' })
    stage.listener.server.emit('clientError', late, gatewayEnd)
    await expectRefusal({ ...stage, client }, 408, 'CLIENT_TIMEOUT')
    expect(stage.pool.acquired).toEqual([])
  })

  test('that sends nothing at all costs nothing', async () => {
    const stage = await openStage()
    stage.client.socket.end()
    expect(await stage.client.rest()).toBe('')
    expect(stage.pool.acquired).toEqual([])
    expect(stage.failures).toEqual([])
  })
})

describe('a slow worker', () => {
  test.each<[string, string, string]>([
    ['with a length', 'HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nok', 'ok'],
    [
      'with chunks',
      'HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n',
      '1\r\no\r\n1\r\nk\r\n0\r\nX-T: 1\r\n\r\n',
    ],
  ])('%s: the client gets all of it', async (_name, answer, body) => {
    const stage = await openRawStage(async (worker) => {
      await worker.head()
      await trickle(worker, answer)
      echo(worker, await worker.head())
    })
    stage.client.send(first)
    expect(await stage.client.head()).toContain('\r\nX-A: 1\r\n')
    expect(await stage.client.takeBytes(body.length)).toBe(body)
    await expectInStep(stage)
  })

  test.each<[string, string]>([
    ['that never answers', ''],
    ['whose head never ends', 'HTTP/1.1 200 OK\r\nX-A: 1\r\nX-'],
    ['that sends hints and no response', 'HTTP/1.1 103 Early Hints\r\nX-A: 1\r\n\r\n'],
  ])('%s: 504', async (_name, begun) => {
    const stage = await openRawStage(
      async (worker) => {
        worker.send((await worker.head()) && begun)
        await worker.rest()
      },
      { upstream: { headersTimeout: 50 } },
    )
    stage.client.send(request('GET /first HTTP/1.1', ['Connection: close']))
    await expectRefusal(stage, 504, 'UPSTREAM_TIMEOUT')
  })

  test('that is silent within its body: the client is cut', async () => {
    const stage = await openRawStage(
      async (worker) => {
        await worker.head()
        worker.send('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok')
        await worker.rest()
      },
      { upstream: { bodyTimeout: 50 } },
    )
    stage.client.send(first)
    expect(await stage.client.head()).toMatch(/^HTTP\/1\.1 200 /)
    expect(await stage.client.rest()).toBe('ok')
    expect(await stage.pool.idle()).toBe(0)
    await expect.poll(() => stage.failures).toMatchObject([{ code: 'UPSTREAM_TIMEOUT', status: undefined }])
  })
})
