import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { setImmediate as turn } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createGateway, fromHeader } from 'corral/h3'
import { timeLimit } from '../../support/time-limit.ts'
import { FakePool } from '../h3/_pool.ts'
import { httpWorker, listenOn } from '../h3/_scene.ts'

/** A time for each property, within which it tries what it can. */
const limits = { numRuns: 100_000, plugins: [timeLimit(5_000)] }

interface Message {
  /** What becomes of it: answered by the gateway or refused, or answered by the worker before it has read the body, or behind it. */
  readonly fate: 'ping' | 'refused' | 'unexpected' | 'early' | 'whole'
  readonly framing: 'length' | 'chunks'
  readonly size: number
  readonly fill: 'lines' | 'heads' | 'noise'
  /** Sizes of its chunks, in turn. */
  readonly chunks: readonly number[]
  readonly expects: boolean
  /** Empty lines in front of it. */
  readonly blank: number
}

const size = fc.oneof(
  { weight: 4, arbitrary: fc.constant(0) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 300 }) },
  { weight: 2, arbitrary: fc.integer({ min: 4090, max: 4102 }) },
  { weight: 1, arbitrary: fc.integer({ min: 5000, max: 140_000 }) },
)

const message: fc.Arbitrary<Message> = fc.record({
  fate: fc.constantFrom('whole', 'whole', 'whole', 'early', 'refused', 'unexpected', 'ping'),
  framing: fc.constantFrom('length', 'length', 'chunks'),
  size,
  fill: fc.constantFrom('lines', 'heads', 'noise'),
  chunks: fc.array(fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constantFrom(1023, 1025, 4096, 9000)), {
    minLength: 1,
    maxLength: 4,
  }),
  expects: fc.constantFrom(false, false, false, true),
  blank: fc.constantFrom(0, 0, 0, 1, 20),
})

/** Messages of which some come many times over. */
const messages = fc
  .array(fc.tuple(message, fc.constantFrom(1, 1, 1, 15, 17, 40)), { minLength: 1, maxLength: 6 })
  .map((groups) => groups.flatMap(([one, times]) => Array.from({ length: one.size > 10_000 ? 1 : times }, () => one)))

/** Sizes of what is sent at a time, in turn, and whether a turn of the event loop goes by behind each. */
const cuts = fc.array(
  fc.record({
    size: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1000, max: 70_000 })),
    pauses: fc.boolean(),
  }),
  { minLength: 1, maxLength: 12 },
)

const noise = createHash('shake256', { outputLength: 140_000 }).update('noise').digest().toString('latin1')
const fills = {
  lines: '\r\n'.repeat(70_000),
  heads: 'POST /within HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n'.repeat(3000),
  noise,
}

function bodyOf({ fill, size }: Message): string {
  return fills[fill].slice(0, size)
}

function textOf(message: Message, index: number): string {
  const { fate, framing, chunks, expects, blank } = message
  const body = bodyOf(message)
  const start = `${'\r\n'.repeat(blank)}${fate === 'ping' ? 'OPTIONS *' : `POST /${fate}/${index}`} HTTP/1.1`
  const head = [start, 'Host: a', ...(fate === 'refused' ? [] : ['X-Session-Id: red'])]
  // Who is refused without having been told to go on may leave the body out: the connection ends with that.
  if (expects && (fate === 'whole' || fate === 'early')) head.push('Expect: 100-continue')
  if (fate === 'unexpected') head.push('Expect: nothing')
  if (framing === 'length') return [...head, `Content-Length: ${body.length}`, '', body].join('\r\n')
  let content = ''
  for (let at = 0, next = 0; at < body.length; next++) {
    const piece = body.slice(at, at + (chunks[next % chunks.length] as number))
    content += `${piece.length.toString(16)};x=y\r\n${piece}\r\n`
    at += piece.length
  }
  return [...head, 'Transfer-Encoding: chunked', '', `${content}0`, 'A-Trailer: of it', '', ''].join('\r\n')
}

const digest = (body: Buffer | string) => createHash('sha1').update(body).digest('hex')

function expected(message: Message, index: number): string {
  if (message.fate === 'ping') return '204'
  if (message.fate === 'refused') return '400'
  if (message.fate === 'unexpected') return '417'
  return message.fate === 'early' ? `<${index}>` : `<${index} ${digest(Buffer.from(bodyOf(message), 'latin1'))}>`
}

async function answer(req: IncomingMessage): Promise<string> {
  const [, fate, index] = (req.url as string).split('/')
  return fate === 'early' ? `<${index}>` : `<${index} ${digest(await buffer(req))}>`
}

/** The statuses of what is refused, and the contents of what is not. */
function answersIn(received: string): string[] {
  return [...received.matchAll(/HTTP\/1\.1 ([24]\d\d) (?!OK)|(<.*?>)/g)].map(
    ([, status, content]) => (status ?? content) as string,
  )
}

test.each([
  ['TCP', false],
  ['TLS', true],
])('whatever requests come over %s, and however they are cut, each is answered, in order', async (_name, tls) => {
  const worker = httpWorker(async (req, res) => res.end(await answer(req).catch(String)))
  const pool = new FakePool({ host: '127.0.0.1', port: await listenOn(worker) })
  const gateway = createGateway(pool.asPool, { sessionId: fromHeader('x-session-id') })
  const listener = await gateway.listen({ port: 0, tls })
  const port = { port: listener.port, host: '127.0.0.1' }
  await fc.assert(
    fc.asyncProperty(messages, cuts, async (sent, pieces) => {
      const client: Socket = tls ? connectTls({ ...port, rejectUnauthorized: false }) : connect(port)
      const received = buffer(client)
      client.setNoDelay(true)
      const text = sent.map(textOf).join('') + 'OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'
      for (let at = 0, next = 0; at < text.length; next++) {
        const { size, pauses } = pieces[next % pieces.length] as { size: number; pauses: boolean }
        client.write(text.slice(at, at + size), 'latin1')
        at += size
        if (pauses && next < 200) await turn()
      }
      expect(answersIn((await received).toString('latin1'))).toEqual([...sent.map(expected), '204'])
      await pool.until(() => pool.open === 0)
    }),
    limits,
  )
  await listener.close({ grace: 0 })
})
