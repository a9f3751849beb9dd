import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { PassThrough } from 'node:stream'
import { describe, expect, test, vi } from 'vitest'
import type { GatewayOptions, RequestRecord } from 'corral/h3'
import { TurnBudget } from '../../../src/adapters/clients/turn-budget.ts'
import type { Core } from '../../../src/adapters/h3/core.ts'
import { relayRefusal } from '../../../src/adapters/h3/refused-upgrade.ts'
import type { RawConnection } from './_scene.ts'
import { dial, handshakeOf, openScene, rawWorker, signal } from './_scene.ts'

const head = 'HTTP/1.1 403 No\r\n'

/** A client whose handshake a worker answers by hand, and that gets no upgrade. */
async function open(answer: (worker: RawConnection) => unknown, options: Partial<GatewayOptions> = {}) {
  const ended: Promise<void>[] = []
  const records: RequestRecord[] = []
  const worker = rawWorker(async (connection) => {
    await connection.head()
    ended.push(once(connection.socket, 'close').then(() => {}))
    connection.socket.on('end', () => connection.socket.end())
    await answer(connection)
  })
  const scene = await openScene(worker, { onRequest: (record) => records.push(record), ...options })
  const client = await dial(scene.port)
  client.send(handshakeOf())
  return { ...scene, client, records, ended }
}

describe('the answer of a worker that does not upgrade', () => {
  test.each(['end', 'destroy', 'resetAndDestroy'] as const)(
    'is given up when the client leaves (%s), however long it would go on',
    async (leave) => {
      const { client, pool, ended, records, failures } = await open((worker) =>
        worker.send(`${head}Content-Length: 9\r\n\r\nbig`),
      )
      await client.take('big')
      client.socket[leave]()
      expect(await pool.idle()).toBe(0)
      await ended[0]
      await vi.waitFor(() => expect(records).toMatchObject([{ outcome: 'left', status: 403 }]))
      expect(failures).toEqual([])
    },
  )

  test('has its head sent before its body comes', async () => {
    const { client } = await open((worker) => worker.send(`${head}Content-Length: 9\r\n\r\n`))
    expect(await client.head()).toMatch(/^HTTP\/1\.1 403 No/)
  })

  test.each<[string, string, (worker: RawConnection) => unknown, RegExp]>([
    ['shorter than its length', 'Content-Length: 9\r\n\r\nbig', ({ socket }) => socket.end(), /closed its connection/],
    [
      'within chunks',
      'Transfer-Encoding: chunked\r\n\r\n3\r\nbig\r\n',
      ({ socket }) => socket.end(),
      /closed its connection/,
    ],
    ['by what is no chunk', 'Transfer-Encoding: chunked\r\n\r\n3\r\nbig\r\nzz\r\n', () => {}, /chunk size/],
    ['by a reset, without a length', '\r\nbig', ({ socket }) => socket.resetAndDestroy(), /reset its connection/],
  ])('is cut where it breaks off, %s, and that is told', async (_how, rest, breakOff, reason) => {
    const worker = signal<RawConnection>()
    const { client, pool, failures, records } = await open((connection) => {
      connection.send(head + rest)
      worker.resolve(connection)
    })
    await client.take('big')
    breakOff(await worker.promise)
    expect(await client.rest()).not.toMatch(/0\r\n\r\n$/)
    expect(await pool.idle()).toBe(0)
    await vi.waitFor(() => expect([failures.length, records.length]).toEqual([1, 1]))
    expect(failures).toMatchObject([{ code: 'UPSTREAM_FAILED', status: undefined }])
    expect(String(failures[0]?.cause)).toMatch(reason)
    expect(records).toMatchObject([{ outcome: 'cut', code: 'UPSTREAM_FAILED' }])
  })

  // Of which nobody could tell whether the chunks are in the body.
  test.each(['', 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'])(
    'is not passed on with a coding that is not seen for a tab',
    async (before) => {
      const { client, failures } = await open((worker) =>
        worker.send(`${before}${head}transfer-encoding: chunked \t\r\nX-A: 1\r\n\r\n3\r\nbig\r\n0\r\n\r\n`),
      )
      expect(await client.rest()).toMatch(/HTTP\/1\.1 502 /)
      expect(failures[0]?.cause).toMatchObject({ message: expect.stringContaining('transfer coding') as string })
    },
  )

  test('may have tabs elsewhere', async () => {
    const { client } = await open((worker) =>
      worker.send(`${head}X-A: 1\t\r\nTransfer-Encoding: chunked\r\nX-B: 1\t\r\n\r\n4\r\nbig\t\r\n0\r\n\r\n`),
    )
    expect(await client.rest()).toMatch(/4\r\nbig\t\r\n0\r\n\r\n$/)
  })

  test('must not come behind a 100 that nobody asked for', async () => {
    const { client, failures } = await open((worker) =>
      worker.send(`HTTP/1.1 100 Continue\r\n\r\n${head}Content-Length: 0\r\n\r\n`),
    )
    expect(await client.rest()).toMatch(/HTTP\/1\.1 502 /)
    expect(failures[0]?.cause).toMatchObject({ message: expect.stringContaining('100 Continue') as string })
  })

  test('is told of when it says 101 and switches to nothing', async () => {
    const { client, failures } = await open((worker) =>
      worker.send('HTTP/1.1 101 Yes\r\nConnection: Upgrade\t\r\n\r\n'),
    )
    expect(await client.rest()).toMatch(/HTTP\/1\.1 502 /)
    expect(failures[0]?.cause).toMatchObject({
      message: 'The worker answered 101 without a "Connection: Upgrade" that could be read',
    })
  })

  test('is recorded when it is over, whether or not the client closes', async () => {
    const { client, records } = await open((worker) => worker.send(`${head}Content-Length: 3\r\n\r\nbig`))
    expect(await client.rest()).toMatch(/big$/)
    await vi.waitFor(() => expect(records).toHaveLength(1))
    expect(records).toMatchObject([{ outcome: 'answered', status: 403, bytesOut: 3 }])
    expect(client.socket.destroyed).toBe(false)
  })

  test('takes turns with all other bodies', async () => {
    const turnBudget = new TurnBudget()
    const [answer, res] = [new PassThrough(), new PassThrough()]
    Object.assign(answer, { setTimeout: () => {} })
    Object.assign(res, { flushHeaders: () => {} })
    const core = { turnBudget, settings: { upstream: { bodyTimeout: 0 } } } as unknown as Core
    const listeners = { sender: {} as never, onPiece: () => {}, onEnd: () => {}, onCut: () => {} }
    relayRefusal(core, answer as unknown as IncomingMessage, res as unknown as ServerResponse, listeners)
    turnBudget.spend(1024 * 1024)
    answer.write('piece')
    await once(res.resume(), 'data')
    expect(answer.isPaused()).toBe(true)
    const resumed = once(answer, 'resume')
    await resumed
  })
})
