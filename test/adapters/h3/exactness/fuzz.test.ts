import fc from 'fast-check'
import { expect, test } from 'vitest'
import { timeLimit } from '../../../support/time-limit.ts'
import { dial } from '../_scene.ts'
import { echo, openStage, request } from './_stage.ts'

/** A time for each property, within which it tries what it can. */
const limits = { numRuns: 100_000, plugins: [timeLimit(6_000)] }

const separators = ['\r\n', '\r\n', '\r\n', '\n', '\r', '\r\n ', '\r\n\t', ': ', ':', ' ', '\t', ',', ';', '\0', '"']
const words = [
  'GET',
  'POST',
  'HEAD',
  'CONNECT',
  '/',
  '/a',
  '*',
  'http://a/',
  'HTTP/1.1',
  'HTTP/1.0',
  'HTTP/2.0',
  'Host',
  'a',
  'X-Session-Id',
  'red',
  'Content-Length',
  'Transfer-Encoding',
  'chunked',
  'identity',
  'Connection',
  'close',
  'keep-alive',
  'Upgrade',
  'websocket',
  'h2c',
  'Expect',
  '100-continue',
  '0',
  '3',
  '5',
  'abc',
  '0\r\n\r\n',
  '3\r\nabc\r\n',
  '\r\n\r\n',
  '200',
  '204',
  '304',
  '101',
  '103',
  'OK',
]
const tokens = fc.oneof(
  { weight: 10, arbitrary: fc.constantFrom(...words, ...separators) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 4 }).map((bytes) => Buffer.from(bytes).toString('latin1')) },
)

/** Text that is nearly right: what is right, with some of it taken out, put in or replaced. */
function nearly(texts: readonly string[]): fc.Arbitrary<string> {
  const edit = fc.record({ at: fc.nat(400), remove: fc.nat(12), insert: fc.oneof(fc.constant(''), tokens) })
  return fc
    .record({ text: fc.constantFrom(...texts), edits: fc.array(edit, { maxLength: 3 }) })
    .map(({ text, edits }) =>
      edits.reduce((all, { at, remove, insert }) => {
        const from = at % (all.length + 1)
        return all.slice(0, from) + insert + all.slice(from + remove)
      }, text),
    )
}

const requests = [
  request('GET /a HTTP/1.1'),
  request('POST /a HTTP/1.1', ['Content-Length: 3'], 'abc'),
  request('POST /a HTTP/1.1', ['Transfer-Encoding: chunked'], '3\r\nabc\r\n0\r\n\r\n'),
  request('GET /a HTTP/1.1', [
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  ]),
  request('POST /a HTTP/1.1', ['Expect: 100-continue', 'Content-Length: 3'], 'abc'),
]
const responses = [
  'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc',
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-A: 1\r\n\r\n',
  'HTTP/1.0 200 OK\r\n\r\nabc',
  'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n',
  'HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n',
  'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n',
]

/** The text of whole responses, as a client of HTTP/1.1 reads them; throws on anything else but one that is cut. */
function readResponses(text: string): string[] {
  const read: string[] = []
  let rest = text
  while (rest !== '') {
    const end = rest.indexOf('\r\n\r\n')
    if (end === -1) throw new Error(`No head: ${JSON.stringify(rest)}`)
    const head = rest.slice(0, end)
    if (!/^HTTP\/1\.1 \d{3} [^\r\n\0]*(?:\r\n[!#$%&'*+.^`|~\w-]+: ?[^\r\n\0]*)*$/.test(head)) {
      throw new Error(`Not a head: ${JSON.stringify(head)}`)
    }
    rest = rest.slice(end + 4)
    const length = /^content-length: (\d+)$/im.exec(head)?.[1]
    if (/^HTTP\/1\.1 (?:1\d\d|204|304)/.test(head)) continue
    if (/^transfer-encoding: chunked$/im.test(head)) {
      const end = endOfChunks(rest)
      read.push(head + rest.slice(0, end ?? rest.length))
      rest = rest.slice(end ?? rest.length)
    } else if (length !== undefined) {
      read.push(head + rest.slice(0, Number(length)))
      rest = rest.slice(Number(length))
    } else return [...read, head + rest]
  }
  return read
}

/** Where chunks and their trailers end; `undefined` when they are cut. */
function endOfChunks(text: string): number | undefined {
  let at = 0
  for (;;) {
    const line = text.indexOf('\r\n', at)
    if (line === -1) return undefined
    const size = text.slice(at, line)
    if (!/^[\da-f]+$/.test(size)) throw new Error(`Not a chunk: ${JSON.stringify(text.slice(at))}`)
    if (Number.parseInt(size, 16) === 0) {
      const end = text.indexOf('\r\n\r\n', line)
      return end === -1 ? undefined : end + 4
    }
    at = line + 4 + Number.parseInt(size, 16)
  }
}

test('whatever a client sends, it gets nothing but responses, no more than it asked for, and every lease comes back', async () => {
  const stage = await openStage()
  await fc.assert(
    fc.asyncProperty(
      fc.array(nearly(requests), { minLength: 1, maxLength: 3 }),
      fc.integer({ min: 1, max: 200 }),
      async (texts, chop) => {
        const client = await dial(stage.port)
        const text = texts.join('')
        for (let at = 0; at < text.length && client.socket.writable; at += chop) client.send(text.slice(at, at + chop))
        client.socket.end()
        const got = await client.rest()
        client.socket.destroy()
        expect(got).not.toMatch(/INTERNAL_ERROR|node:|\/src\//)
        const read = readResponses(got)
        // As many requests as anybody could see in it, and one answer to what is none.
        expect(read.length).toBeLessThanOrEqual((text.match(/HTTP\/|\n/g)?.length ?? 0) + 1)
        await stage.pool.until(() => stage.pool.open === 0)
      },
    ),
    limits,
  )
  // The gateway still serves.
  const client = await dial(stage.port)
  client.send(request('GET /end HTTP/1.1', ['Connection: close']))
  expect(await client.rest()).toMatch(/\r\n\r\nGET \/end$/)
})

test('whatever a worker answers, every response is one, belongs to its request, and tells nothing of the inside', async () => {
  let lie = ''
  const stage = await openStage(
    (worker, text) => {
      if (!text.startsWith('GET /lie')) {
        echo(worker, text)
        return
      }
      worker.send(lie)
      worker.socket.end()
    },
    { upstream: { headersTimeout: 1_000 } },
  )
  const upgrade = ['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==']
  await fc.assert(
    fc.asyncProperty(
      fc.array(nearly(responses), { minLength: 1, maxLength: 2 }),
      fc.boolean(),
      async (texts, upgrades) => {
        lie = texts.join('')
        const client = await dial(stage.port)
        if (upgrades) {
          client.send(request('GET /lie HTTP/1.1', upgrade))
          const got = await client.rest()
          expect(got).toMatch(/^(?:HTTP\/1\.1 \d{3} |$)/)
          if (!got.startsWith('HTTP/1.1 101 ')) readResponses(got)
        } else {
          client.send(request('GET /lie HTTP/1.1') + request('GET /true HTTP/1.1', ['Connection: close']))
          const got = await client.rest()
          expect(got).not.toMatch(/INTERNAL_ERROR|127\.0\.0\.1/)
          const read = readResponses(got)
          // The second is answered, with its own, unless the first was cut.
          const own = read.filter((one) => one.endsWith('GET /true'))
          expect(own.length).toBeLessThanOrEqual(1)
          if (own.length === 1) expect(read.at(-1)).toBe(own[0])
        }
        client.socket.destroy()
        await stage.pool.until(() => stage.pool.open === 0)
      },
    ),
    limits,
  )
})
