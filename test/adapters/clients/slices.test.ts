import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { Socket } from 'node:net'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { setImmediate as turn } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { expect, onTestFinished, test } from 'vitest'
import { createGateway, fromHeader } from 'corral/h3'
import { Connections } from '../../../src/adapters/clients/connections.ts'
import { inTurn, isPipelined } from '../../../src/adapters/clients/pipeline.ts'
import { TurnBudget } from '../../../src/adapters/clients/turn-budget.ts'
import { FakePool } from '../h3/_pool.ts'
import type { Handler } from '../h3/_scene.ts'
import { RawConnection, dial, httpWorker, listenOn, openScene, rawWorker, signal, textOf } from '../h3/_scene.ts'

const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n`
const paths = (count: number) => Array.from({ length: count }, (_, index) => `/${index}`)
const marks = (answers: string) => answers.match(/<.*?>/g)

function requestsOf(server: Server): () => number {
  let count = 0
  for (const event of ['request', 'checkExpectation']) server.on(event, () => count++)
  return () => count
}

/** The sizes of what is handed on from here on, and how much that was read has waited for it at most. */
function watch(socket: Socket) {
  const before = socket.bytesRead
  const slices: number[] = []
  let passed = 0
  let most = 0
  socket.on('data', ({ length }: Buffer) => {
    slices.push(length)
    passed += length
    most = Math.max(most, socket.bytesRead - before - passed)
  })
  return { slices, mostWaiting: () => most }
}

async function openTls(worker: Handler) {
  const pool = new FakePool({ host: '127.0.0.1', port: await listenOn(httpWorker(worker)) })
  const listener = await createGateway(pool.asPool, { sessionId: fromHeader('x-session-id') }).listen({
    port: 0,
    tls: true,
  })
  onTestFinished(() => listener.close({ grace: 0 }))
  const accepted = once(listener.server, 'secureConnection') as Promise<[Socket]>
  const socket = connectTls({ port: listener.port, host: '127.0.0.1', rejectUnauthorized: false })
  onTestFinished(() => void socket.destroy())
  await once(socket, 'secureConnect')
  return { listener, accepted, client: new RawConnection(socket) }
}

async function openPlain(worker: Parameters<typeof openScene>[0]) {
  const { listener, port } = await openScene(worker)
  const accepted = once(listener.server, 'connection') as Promise<[Socket]>
  return { listener, accepted, client: await dial(port) }
}

/** Sends requests, the first of which is answered late, until the client is not read any more. */
async function holdUp(open: typeof openTls, requests: readonly string[]) {
  const first = signal()
  const { listener, accepted, client } = await open(async (req, res) => {
    if (req.url === '/0') await first.promise
    res.end(`<${req.url}>`)
  })
  const made = requestsOf(listener.server)
  const [socket] = await accepted
  const paused = once(socket, 'pause')
  client.send(requests.join(''))
  await paused
  for (let turns = 0; turns < 20; turns++) await turn()
  const answers = async () => {
    first.resolve()
    return marks(await client.take(`</${requests.length - 1}>`))
  }
  return { made, socket, answers }
}

test.each([
  ['TCP', openPlain],
  ['TLS', openTls],
])(
  'of thousands of requests that come at once over %s few are read, and fewer made, before the first is answered',
  async (_name, open) => {
    const { made, socket, answers } = await holdUp(open, paths(5000).map(get))
    expect(made()).toBeLessThanOrEqual(64)
    expect(socket.bytesRead).toBeLessThanOrEqual(64 * 1024)
    expect(await answers()).toEqual(paths(5000).map((path) => `<${path}>`))
    expect(made()).toBe(5000)
  },
)

test('a body that looks like heads arrives as it is', async () => {
  const { port } = await openScene(async (req, res) => {
    const text = await textOf(req)
    res.end(`<${text.length} ${text === body}>`)
  })
  const body = get('/within').repeat(2000) + '\r\n'.repeat(20_000)
  const client = await dial(port)
  client.send(
    `POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nContent-Length: ${body.length}\r\n\r\n${body}${get('/')}`,
  )
  await client.take(`<${body.length} true>`)
  await client.take('<0 false>')
})

test.each([
  ['of a worker', 'POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n'],
  ['of nobody', 'OPTIONS * HTTP/1.1\r\nHost: a\r\n'],
  ['that is refused', 'POST / HTTP/1.1\r\nHost: a\r\n'],
  ['that expects what there is not', 'POST / HTTP/1.1\r\nHost: a\r\nExpect: nothing\r\n'],
])('a body in chunks of a byte %s is passed on bit by bit, a turn for each, to its end', async (_name, head) => {
  const { accepted, client } = await openPlain(async (req, res) => res.end(`<${(await textOf(req)).length}>`))
  const [socket] = await accepted
  let perTurn = 0
  let most = 0
  const { slices, mostWaiting } = watch(socket)
  socket.on('data', () => {
    if (perTurn++ === 0) {
      setImmediate(() => {
        most = Math.max(most, perTurn)
        perTurn = 0
      })
    }
  })
  client.send(`${head}Transfer-Encoding: chunked\r\n\r\n`)
  client.send(`${'1\r\nx\r\n'.repeat(50_000)}0\r\n\r\n${get('/')}`)
  await client.take('<0>')
  expect(Math.max(...slices)).toBeLessThan(2048)
  expect(most).toBeLessThanOrEqual(4)
  expect(mostWaiting()).toBeLessThanOrEqual(128 * 1024)
})

test.each([
  ['Content-Length', '\r\n'.repeat(400_000), (body: string) => `Content-Length: ${body.length}\r\n\r\n${body}`],
  [
    'Transfer-Encoding',
    'a line\r\n\r\n'.repeat(80_000),
    (body: string) => `Transfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`,
  ],
])('a body (%s) that is full of empty lines is neither held nor cut small', async (_by, body, of) => {
  const { accepted, client } = await openPlain(async (req, res) => res.end(`<${(await textOf(req)) === body}>`))
  const [socket] = await accepted
  const { slices, mostWaiting } = watch(socket)
  client.send(`POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n${of(body)}${get('/')}`)
  await client.take('<true>')
  await client.take('<false>')
  expect(slices.length).toBeLessThanOrEqual(16 + body.length / 1024)
  expect(mostWaiting()).toBeLessThanOrEqual(128 * 1024)
})

test('empty lines in front of a request are passed on together', async () => {
  const { accepted, client } = await openPlain((req, res) => res.end(`<${req.url}>`))
  const [socket] = await accepted
  const { slices } = watch(socket)
  client.send('\r\n'.repeat(400_000) + get('/behind'))
  await client.take('</behind>')
  expect(slices.length).toBeLessThanOrEqual(16 + 800_000 / 1024)
})

test('of requests with many fields even fewer are made before the first is answered', async () => {
  const fields = 'a: b\r\n'.repeat(900)
  const requests = paths(100).map((path) => get(path).replace('Host: a\r\n', `Host: a\r\n${fields}`))
  const { made, answers } = await holdUp(openPlain, requests)
  expect(made()).toBeLessThanOrEqual(3)
  expect(await answers()).toEqual(paths(100).map((path) => `<${path}>`))
})

test('long bodies one behind the other are passed on whole, wherever the reads end', async () => {
  const { accepted, client } = await openPlain(async (req, res) => res.end(`<${(await textOf(req)) === body}>`))
  const body = '\r\n'.repeat(5000)
  const upload = `POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  const [socket] = await accepted
  const { slices } = watch(socket)
  const count = 20
  const sent = upload.repeat(count)
  // The head of each is behind another piece of the body before it.
  for (let at = 0; at < sent.length; at += upload.length - 10) {
    client.send(sent.slice(at, at + upload.length - 10))
    await turn()
  }
  let answers = ''
  for (let index = 0; index < count; index++) answers += await client.take('<true>')
  expect(marks(answers)).toHaveLength(count)
  expect(slices.length).toBeLessThan(10 * count)
})

test('what comes behind a handshake is not taken apart', async () => {
  const sent = get('/within').repeat(1000)
  const got = signal<string>()
  const { accepted, client } = await openPlain(
    rawWorker(async (worker) => {
      await worker.head()
      worker.send(
        'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
          'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n',
      )
      got.resolve(await worker.takeBytes(2 * sent.length))
    }),
  )
  const [socket] = await accepted
  const handshake =
    'GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n'
  client.send(handshake + sent)
  await client.head()
  const { slices } = watch(socket)
  client.send(sent)
  expect(await got.promise).toBe(sent + sent)
  expect(slices.length).toBeLessThan(1000 / 16)
})

test('requests behind an upgrade that is ignored are answered in order, and few of them made at once', async () => {
  const [offer, ...others] = paths(1000).map(get)
  const ignored = offer!.replace('Host: a', 'Host: a\r\nConnection: Upgrade\r\nUpgrade: h2c')
  const { made, answers } = await holdUp(openPlain, [ignored, ...others])
  expect(made()).toBeLessThanOrEqual(64)
  expect(await answers()).toEqual(paths(1000).map((path) => `<${path}>`))
})

test('the requests before one that is none are answered, and it is answered once', async () => {
  const { port, failures } = await openScene((req, res) => res.end(`<${req.url}>`))
  const client = await dial(port)
  client.send(`${paths(500).map(get).join('')}GET\r\n\r\n${'nothing\r\n\r\n'.repeat(2000)}`)
  const answers = await client.rest()
  expect(marks(answers)).toEqual(paths(500).map((path) => `<${path}>`))
  expect(answers.match(/HTTP\/1.1 400/g)).toHaveLength(1)
  expect(failures).toMatchObject([{ code: 'REQUEST_MALFORMED' }])
})

test.each([
  ['TCP', openPlain],
  ['TLS', openTls],
])('the end of a client over %s comes behind all that it has sent', async (_name, open) => {
  const { client, listener } = await open((_req, res) => res.end())
  const made = requestsOf(listener.server)
  client.socket.end(paths(1000).map(get).join(''), 'latin1')
  await client.rest()
  expect(made()).toBe(1000)
})

test('a client that reads late gets every answer', async () => {
  const { listener, port } = await openScene((req, res) => res.end(`<${req.url}>${'x'.repeat(100_000)}`))
  const accepted = once(listener.server, 'connection') as Promise<[Socket]>
  const client = connect(port, '127.0.0.1')
  onTestFinished(() => void client.destroy())
  const [socket] = await accepted
  const [first, last] = [paths(200).slice(0, 100), paths(200).slice(100)]
  // Each by itself, so that Node meets one while it waits to write.
  for (const path of first) {
    client.write(get(path))
    await turn()
  }
  while (!socket.writableNeedDrain) await turn()
  client.write(`${last.map(get).join('')}GET /over HTTP/1.0\r\nX-Session-Id: red\r\n\r\n`)
  for (let turns = 0; turns < 50; turns++) await turn()
  expect(marks(await text(client))).toEqual([...paths(200), '/over'].map((path) => `<${path}>`))
})

test('a client is not read while answers wait for their turn, whoever has it read again', async () => {
  const first = signal()
  const server = createServer()
  const connections = new Connections(server, { budget: new TurnBudget() })
  server.on('request', (req, res) => {
    connections.begin(req, res)
    const answer = () => res.end(`<${req.url}>`)
    if (req.url === '/0') void first.promise.then(answer)
    // Node keeps the answer until its turn, and reads no more beyond so many bytes of them.
    else if (req.url === '/now' || !isPipelined(res)) answer()
    else inTurn(req, res, { stallTimeout: 0, onStalled: () => {} }, () => void turn().then(turn).then(answer))
  })
  const made = requestsOf(server)
  const until = async (count: number) => {
    while (made() < count) await turn()
  }
  const accepted = once(server, 'connection') as Promise<[Socket]>
  const client = await dial(await listenOn(server))
  const [socket] = await accepted
  const now = get('/now')
  client.send(now)
  const { length } = (await client.head()) + (await client.take('</now>'))
  const count = Math.floor((socket.writableHighWaterMark - 1) / length)
  client.send(paths(18).map(get).join('') + now.repeat(count))
  await until(1 + 18 + count)
  // With these it is too much, and too many requests wait, all at once.
  const paused = once(socket, 'pause')
  client.send(paths(32).slice(18).map(get).join('') + now + get('/32'))
  await until(1 + 18 + count + 16)
  await paused
  client.send(paths(100).slice(33).map(get).join(''))
  first.resolve()
  const answers = marks(await client.take('</99>'))
  expect(answers?.filter((mark) => mark !== '</now>')).toEqual(paths(100).map((path) => `<${path}>`))
  expect(answers?.filter((mark) => mark === '</now>')).toHaveLength(count + 1)
})
