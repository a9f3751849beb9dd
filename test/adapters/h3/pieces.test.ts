import fc from 'fast-check'
import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { joinPieces } from '../../../src/adapters/h3/pieces.ts'
import { TurnBudget } from '../../../src/adapters/clients/turn-budget.ts'
import { dial, openScene, rawWorker, textOf } from './_scene.ts'

/** A request, and what of its body has come out so far. */
function open(headers: Record<string, string> = { 'transfer-encoding': 'chunked' }) {
  const socket = new Socket()
  const req = new IncomingMessage(socket)
  Object.assign(req.headers, headers)
  const budget = new TurnBudget()
  joinPieces(req, budget)
  return { req, socket, budget }
}

test('pieces of a byte that come in one turn are joined, and count for what they cost', async () => {
  const { req, budget } = open()
  const pieces: Buffer[] = []
  req.on('data', (piece: Buffer) => pieces.push(piece))
  for (let index = 0; index < 10_000; index++) req.push(Buffer.from([index % 251]))
  expect(budget.isSpent).toBe(true)
  await turn()
  expect(pieces.map(({ length }) => length)).toEqual([2048, 2048, 2048, 2048, 1808])
  expect(Buffer.concat(pieces)).toEqual(Buffer.from(Array.from({ length: 10_000 }, (_, index) => index % 251)))
})

test('whatever the sizes, and whenever they come, the body is the same', async () => {
  const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 900, max: 3000 })), {
    maxLength: 40,
  })
  await fc.assert(
    fc.asyncProperty(sizes, fc.infiniteStream(fc.boolean()), async (lengths, pauses) => {
      const { req } = open()
      const whole = buffer(req)
      const sent: Buffer[] = []
      for (const [index, length] of lengths.entries()) {
        sent.push(Buffer.alloc(length, index))
        req.push(sent.at(-1))
        if (pauses.next().value === true) await turn()
      }
      req.push(null)
      expect(await whole).toEqual(Buffer.concat(sent))
    }),
  )
})

test('a connection whose body nobody reads is read no more', async () => {
  const { req, socket } = open()
  const piece = Buffer.alloc(1000)
  for (let bytes = 0; bytes < req.readableHighWaterMark + 4096; bytes += piece.length) req.push(piece)
  await turn()
  expect(socket.isPaused()).toBe(true)
})

test('a body of known length is left as it comes', () => {
  const { req } = open({ 'content-length': '2' })
  req.push(Buffer.from('a'))
  expect(req.readableLength).toBe(1)
})

test('chunks of a byte that came together go to the worker together', async () => {
  const { port } = await openScene(
    rawWorker(async (worker) => {
      await worker.head()
      const content = await worker.take('0\r\n\r\n')
      worker.send(`HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n${String(content.length).padStart(6)}`)
    }),
  )
  const client = await dial(port)
  client.send('POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nTransfer-Encoding: chunked\r\n\r\n')
  client.send(`${'1\r\nx\r\n'.repeat(10_000)}0\r\n\r\n`)
  await client.head()
  // As chunks of a byte they are 60,000.
  expect(Number(await client.takeBytes(6))).toBeLessThan(11_000)
})

test('a pipelined request is no exception, and is joined once', async () => {
  const { port } = await openScene(async (req, res) => res.end(`<${await textOf(req)}>`))
  const client = await dial(port)
  const head = 'POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nTransfer-Encoding: chunked\r\n\r\n'
  const request = (text: string) => `${head}${text.replaceAll(/./g, '1\r\n$&\r\n')}0\r\n\r\n`
  client.send(request('one of them') + request('the other'))
  expect((await client.take('<the other>')).match(/<.*?>/g)).toEqual(['<one of them>', '<the other>'])
})
