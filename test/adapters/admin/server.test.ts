import { once } from 'node:events'
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { createAdmin } from 'corral/admin'
import { createAdminServer } from '../../../src/adapters/admin/server.ts'
import { openPool } from '../../support/scene.ts'
import { dial, listenOn, signal } from '../h3/_scene.ts'

const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`

function requestsOf(server: Server): () => number {
  let count = 0
  server.on('request', () => count++)
  return () => count
}

test('requests that come by the hundred are answered in order, a few in each turn', async () => {
  let asked = 0
  const admin = createAdmin(() => {
    asked++
    return undefined
  })
  const listener = await admin.listen({ port: 0 })
  onTestFinished(() => listener.close())
  const perTurn: number[] = []
  let before = 0
  const look = () => {
    perTurn.push(asked - before)
    before = asked
    if (before < 20 * 50) setImmediate(look)
  }
  setImmediate(look)
  await Promise.all(
    Array.from({ length: 20 }, async () => {
      const client = await dial(listener.port)
      client.send(get('/workers').repeat(50) + get('/nowhere'))
      expect((await client.take('404 Not Found')).match(/HTTP\/1.1 503/g)).toHaveLength(50)
    }),
  )
  expect(asked).toBe(20 * 50)
  expect(Math.max(...perTurn)).toBeLessThanOrEqual(4)
})

test('a client that takes no answers is cut, and few of its requests were begun; one that waits for its answer is not', async () => {
  const ready = signal<boolean>()
  const { pool } = await openPool()
  const { app } = createAdmin(pool, { isReady: () => ready.promise })
  const server = createAdminServer(app, 100)
  const made = requestsOf(server)
  const port = await listenOn(server)
  const patient = await dial(port)
  patient.send(get('/readyz'))
  while (made() === 0) await new Promise(setImmediate)
  const accepted = once(server, 'connection') as Promise<[Socket]>
  const greedy = await dial(port)
  greedy.socket.pause()
  const [socket] = await accepted
  greedy.send(get('/openapi.json').repeat(2000))
  await once(socket, 'close')
  expect(made()).toBeLessThan(1000)
  ready.resolve(true)
  await patient.take('HTTP/1.1 200 OK')
})

test('the answer to what is not HTTP comes after those to the requests before it', async () => {
  const listener = await createAdmin(() => undefined).listen({ port: 0 })
  onTestFinished(() => listener.close())
  const client = await dial(listener.port)
  client.send(`${get('/healthz').repeat(2)}nothing\r\n\r\n${get('/healthz')}`)
  const answers = await client.rest()
  expect(answers.match(/HTTP\/1.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 200', 'HTTP/1.1 400'])
})
