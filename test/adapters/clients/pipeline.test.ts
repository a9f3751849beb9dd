import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { dial, openScene, signal } from '../h3/_scene.ts'

const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n`

test('pipelined requests are answered in order, one after the other', async () => {
  const warnings: Error[] = []
  const warn = (warning: Error) => warnings.push(warning)
  process.on('warning', warn)
  onTestFinished(() => void process.off('warning', warn))
  let most = 0
  const { port, pool } = await openScene((req, res) => {
    most = Math.max(most, pool.open)
    res.end(`<${req.url}>`)
  })
  const client = await dial(port)
  const paths = Array.from({ length: 500 }, (_, i) => `/${i}`)
  client.send(paths.map(get).join(''))
  const answers = await client.take('</499>')
  expect(answers.match(/<.*?>/g)).toEqual(paths.map((path) => `<${path}>`))
  expect(await pool.idle()).toBe(0)
  expect(most).toBe(1)
  expect(warnings).toEqual([])
  client.send(get('/again'))
  await client.take('</again>')
})

test('thousands of requests of many connections, each of them refused, leave turns to others, and are answered in order', async () => {
  const { port, failures } = await openScene(() => {})
  const clients = await Promise.all(Array.from({ length: 30 }, () => dial(port)))
  const perTurn: number[] = []
  let before = 0
  const look = () => {
    perTurn.push(failures.length - before)
    before = failures.length
    if (before < 3000) setImmediate(look)
  }
  setImmediate(look)
  const targets = Array.from({ length: 100 }, (_, index) => `/${index}`)
  const requests = targets.map((target) => `GET ${target} HTTP/1.1\r\nHost: a\r\n\r\n`)
  for (const client of clients) client.send(`${requests.join('')}OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n`)
  for (const client of clients) {
    const answers = await client.take('HTTP/1.1 204 No Content\r\n')
    expect(answers.match(/HTTP\/1.1 400/g)).toHaveLength(100)
  }
  for (const target of targets) expect(failures.filter((failure) => failure.target === target)).toHaveLength(30)
  expect(Math.max(...perTurn)).toBeLessThanOrEqual(128)
})

test('a pipelined upload is taken when its turn has come', async () => {
  const first = signal()
  const { port } = await openScene(async (req, res) => {
    if (req.method === 'GET') await first.promise
    let size = 0
    for await (const chunk of req) size += (chunk as Buffer).length
    res.end(`<${size}>`)
  })
  const client = await dial(port)
  const size = 4 * 1024 * 1024
  client.send(`${get('/')}POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nContent-Length: ${size}\r\n\r\n`)
  client.send('x'.repeat(size) + get('/'))
  first.resolve()
  expect((await client.take(`<${size}>`)).match(/<.*?>/g)).toEqual(['<0>', `<${size}>`])
  await client.take('<0>')
})

test('a pipelined request that expects what there is not waits for its turn, and takes no earlier answer along', async () => {
  const first = signal()
  const { port, failures } = await openScene(async (req, res) => {
    await first.promise
    res.end(`<${req.url}>`)
  })
  const client = await dial(port)
  // More than is read and dropped for nothing.
  const size = 2 * 1024 * 1024
  client.send(
    `${get('/1')}POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nExpect: nothing\r\nContent-Length: ${size}\r\n\r\n`,
  )
  client.send('x'.repeat(size))
  client.send(get('/2'))
  for (let turns = 0; turns < 50; turns++) await turn()
  expect(failures).toEqual([])
  first.resolve()
  const answers = await client.rest()
  expect(answers.match(/<.*?>|HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', '</1>', 'HTTP/1.1 417'])
})

test('a client that leaves gives its lease back, and what waits never asks for one', async () => {
  const arrived = signal()
  const { port, pool } = await openScene(() => arrived.resolve())
  const client = await dial(port)
  client.send(get('/1') + get('/2'))
  await arrived.promise
  client.socket.destroy()
  expect(await pool.idle()).toBe(0)
  expect(pool.acquired).toEqual(['red'])
})

test.each([
  ['many requests', get('/').repeat(100_000)],
  ['an upload', `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 33554432\r\n\r\n${'x'.repeat(33_554_432)}`],
])('a client that leaves with %s unread is noticed', async (_name, rest) => {
  const { port, pool, listener, failures } = await openScene(() => {}, { upstream: { sendTimeout: 100 } })
  const accepted = once(listener.server, 'connection') as Promise<[Socket]>
  const client = await dial(port)
  client.send(get('/') + rest)
  const [socket] = await accepted
  await once(socket, 'pause')
  expect(await client.rest()).toBe('')
  expect(await pool.idle()).toBe(0)
  expect(failures).toMatchObject([{ code: 'UPSTREAM_TIMEOUT', status: undefined }])
})
