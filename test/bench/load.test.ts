import { createServer, type RequestListener } from 'node:http'
import { describe, expect, onTestFinished, test } from 'vitest'
import { WebSocketServer } from 'ws'
import { answers } from '../../bench/generator.ts'
import { hasWrk, run, type Generator, type Load } from '../../bench/load.ts'
import { answerBody, listenOn } from '../../bench/server.ts'

const generator = { ask: (_: 'http', load: Load) => answers.http(load) } as unknown as Generator
/** Below a second it is the generator that runs, above wrk. Without wrk in CI its rows are to fail. */
const lengths = hasWrk || process.env['CI'] !== undefined ? [0.05, 1] : [0.05]

describe.each(lengths)('a load of %s s', (seconds) => {
  test('counts what was answered', async () => {
    expect(seconds < 1 || hasWrk).toBe(true)
    const outcome = await run(await loadOn(answerBody, seconds), generator)
    expect(outcome.operations).toBeGreaterThan(0)
    expect(outcome.p99).toBeGreaterThanOrEqual(outcome.p50)
  })

  test.each<[string, RequestListener, RegExp]>([
    ['a byte is another one', (_, res) => res.end(Buffer.alloc(64)), /wrong/],
    ['a body is too short', (_, res) => res.end('000000000000000\n'), /wrong|instead of/],
    ['a status is not 200', (_, res) => res.writeHead(502).end(), /status 502/],
    ['an answer is missing', (req) => req.socket.destroy(), /missing|other side closed|no answer/],
  ])('fails when %s', async (_, listener, problem) => {
    await expect(run(await loadOn(listener, seconds), generator)).rejects.toThrow(problem)
  })
})

describe('a load of bodies', () => {
  test('fails when not all of an upload has come', async () => {
    const load = await loadOn(answerBody, 0.05)
    const upload = { ...load, method: 'POST', path: '/64KiB' } as const
    expect((await answers.http(upload)).operations).toBeGreaterThan(0)
    const cut = await loadOn((req, res) => {
      req.resume()
      req.on('end', () => res.writeHead(422).end())
    }, 0.05)
    await expect(answers.http({ ...cut, method: 'POST' })).rejects.toThrow('status 422')
  })
})

describe('a load of messages', () => {
  test('fails when an echo is another one', async () => {
    const server = createServer()
    const sockets = new WebSocketServer({ server })
    sockets.on('connection', (socket) => socket.on('message', () => socket.send('something else')))
    const port = await listenOn(server)
    onTestFinished(() => {
      for (const socket of sockets.clients) socket.terminate()
      server.close()
    })
    const load = { port, kind: 'echo', connections: 1, sessions: ['s0'], seconds: 0.05 } as const
    await expect(answers.socket(load)).rejects.toThrow('A wrong echo of 14 bytes')
  })
})

async function loadOn(listener: RequestListener, seconds: number): Promise<Load> {
  const server = createServer(listener)
  const port = await listenOn(server)
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  return { port, base: '', path: '/64B', method: 'GET', connections: 2, sessions: ['s0'], seconds }
}
