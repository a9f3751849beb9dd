/** The load, in a process of its own: HTTP where wrk is not there or not apt, and WebSockets. */
import { once } from 'node:events'
import type { RecordableHistogram } from 'node:perf_hooks'
import { createHistogram } from 'node:perf_hooks'
import { Client } from 'undici'
import type { Dispatcher } from 'undici'
import { WebSocket } from 'ws'
import { serve } from './child.ts'
import { body, Comparison, sizes } from './content.ts'
import type { Load, Outcome } from './load.ts'
import { received } from './server.ts'
import { message } from './stream.ts'

/** What every connection of a load counts in. */
interface Tally {
  readonly latencies: RecordableHistogram
  readonly end: number
}

export interface SocketLoad {
  readonly port: number
  readonly kind: 'echo' | 'stream'
  readonly connections: number
  readonly sessions: readonly string[]
  readonly seconds: number
}

const open: WebSocket[] = []

export const answers = {
  http: (load: Load): Promise<Outcome> =>
    measure(load, (tally, connection) => requestAgain(load, tally, connection, sizes[load.path])),
  socket: (load: SocketLoad): Promise<Outcome> =>
    measure(load, (tally, connection) =>
      load.kind === 'echo' ? echo(load, tally, connection) : receive(load, tally, connection),
    ),
  /** Opens connections and keeps them, each having echoed a message. */
  async hold(load: SocketLoad): Promise<void> {
    const tally = { latencies: createHistogram(), end: 0 }
    // Not more at a time than a backlog holds.
    for (let first = 0; first < load.connections; first += 100) {
      const count = Math.min(100, load.connections - first)
      open.push(...(await Promise.all(Array.from({ length: count }, (_, i) => connect(load, first + i)))))
    }
    for (const socket of open) await echoOnce(socket, tally)
  },
  async letGo(): Promise<void> {
    await Promise.all(open.splice(0).map((socket) => closed(socket)))
  },
}

if (process.send) serve(answers)

async function measure(
  { connections, seconds }: { connections: number; seconds: number },
  use: (tally: Tally, connection: number) => Promise<void>,
): Promise<Outcome> {
  const latencies = createHistogram()
  const start = performance.now()
  const tally = { latencies, end: start + seconds * 1_000 }
  await Promise.all(Array.from({ length: connections }, (_, connection) => use(tally, connection)))
  const [p50, p90, p99] = [50, 90, 99].map((percent) => latencies.percentile(percent) / 1_000)
  const outcome = { operations: latencies.count, seconds: (performance.now() - start) / 1_000 }
  return { ...outcome, p50: p50 ?? 0, p90: p90 ?? 0, p99: p99 ?? 0 }
}

/** One request after the other on one connection, until the time is over. */
async function requestAgain(load: Load, tally: Tally, connection: number, size: number): Promise<void> {
  const client = new Client(`http://127.0.0.1:${load.port}`)
  const content = body(size)
  const { sessions } = load
  const headers = { 'x-session-id': sessions[connection % sessions.length] as string }
  const upload = load.method === 'POST'
  try {
    do {
      const start = process.hrtime.bigint()
      const options = { path: load.base + load.path, method: load.method, headers, body: upload ? content : null }
      await exchange(client, options, upload ? Buffer.from(received) : content)
      tally.latencies.record(process.hrtime.bigint() - start)
    } while (performance.now() < tally.end)
  } finally {
    await client.destroy()
  }
}

function exchange(client: Client, options: Dispatcher.DispatchOptions, expected: Buffer): Promise<void> {
  const comparison = new Comparison(expected)
  return new Promise((resolve, reject) => {
    client.dispatch(options, {
      onRequestStart: () => {},
      onResponseStart: (_, status) => {
        if (status !== 200) throw new Error(`${options.path}: status ${status}`)
      },
      onResponseData: (_, chunk) => comparison.add(chunk),
      onResponseEnd: () => {
        const problem = comparison.problem()
        if (problem === undefined) resolve()
        else reject(new Error(`${options.path}: ${problem}`))
      },
      onResponseError: (_, error) => reject(error),
    })
  })
}

async function connect({ port, kind, sessions }: SocketLoad, connection: number): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/${kind}`, {
    perMessageDeflate: false,
    headers: { 'x-session-id': sessions[connection % sessions.length] as string },
  })
  await once(socket, 'open')
  return socket
}

const greeting = body(64)

/** One message back and forth at a time, until the time is over. */
async function echo(load: SocketLoad, tally: Tally, connection: number): Promise<void> {
  const socket = await connect(load, connection)
  do await echoOnce(socket, tally)
  while (performance.now() < tally.end)
  await closed(socket)
}

async function echoOnce(socket: WebSocket, { latencies }: Tally): Promise<void> {
  const start = process.hrtime.bigint()
  socket.send(greeting)
  const [answer] = (await once(socket, 'message')) as [Buffer]
  if (!answer.equals(greeting)) throw new Error(`A wrong echo of ${answer.length} bytes`)
  latencies.record(process.hrtime.bigint() - start)
}

/** Takes messages as they come, until the time is over. The latency is the time between two. */
async function receive(load: SocketLoad, { latencies, end }: Tally, connection: number): Promise<void> {
  const socket = await connect(load, connection)
  await new Promise<void>((resolve, reject) => {
    let last = process.hrtime.bigint()
    let expected = 0
    socket.on('message', (data: Buffer) => {
      const now = process.hrtime.bigint()
      const number = data.readDoubleBE(0)
      if (number !== expected++ || data.compare(message, 8, undefined, 8) !== 0) {
        reject(new Error(`Message ${number} came in place of ${expected - 1}, or is not as it was sent`))
      }
      latencies.record(now - last)
      last = now
      if (performance.now() >= end) resolve()
    })
    socket.once('close', () => reject(new Error('The connection was closed')))
  })
  await closed(socket)
}

/** Politely: a reset ends some proxies. */
async function closed(socket: WebSocket): Promise<void> {
  const close = once(socket, 'close')
  socket.removeAllListeners('message')
  socket.close()
  await close
}
