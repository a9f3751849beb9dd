import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { WebSocketServer } from 'ws'
import { timeLimit } from '../../../support/time-limit.ts'
import { FakePool } from '../_pool.ts'
import { RawConnection, listenOn, openGateway, rawWorker, handshakeOf } from '../_scene.ts'
import type { Case } from './_cases.ts'
import { frame, goodbye, opcodes, sections } from './_cases.ts'

/** A time for each property, within which it tries what it can. */
const limits = { numRuns: 100_000, plugins: [timeLimit(6_000)] }

/** A server that echoes, and a gateway in front of it. */
async function openEcho(maxPayload = 16 * 1024 * 1024) {
  const http = createServer()
  const server = new WebSocketServer({ server: http, perMessageDeflate: true, maxPayload })
  server.on('connection', (socket) => {
    socket.on('error', () => {})
    socket.on('message', (data, binary) => socket.send(data, { binary }))
  })
  const direct = await listenOn(http)
  const pool = new FakePool({ host: '127.0.0.1', port: direct })
  const { port: through } = await openGateway(pool)
  return { direct, through, pool }
}

function handshake({ extensions }: Case): string {
  return handshakeOf({ fields: extensions === undefined ? [] : [`Sec-WebSocket-Extensions: ${extensions}`] })
}

/** Everything that a client gets, up to the server's close or the end of the connection. */
async function outcome(port: number, test: Case): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  await once(socket, 'connect')
  const client = new RawConnection(socket)
  client.send(handshake(test))
  const head = await client.head()
  if (!head.startsWith('HTTP/1.1 101 ')) {
    socket.destroy()
    return head.split('\r\n', 1)[0] ?? ''
  }
  void send(client, test)
  let got = ''
  try {
    for (;;) {
      const [opcode, bytes] = await takeFrame(client)
      got += bytes
      if (opcode === opcodes.close) break
    }
    socket.end()
    got += await client.rest()
  } catch (error) {
    got += `${client.received} ${String(error)}`
  }
  socket.destroy()
  return head + (got.length < 400 ? Buffer.from(got, 'latin1').toString('hex') : digest(got))
}

async function send(client: RawConnection, { frames, chop, filler }: Case): Promise<void> {
  const bytes = Buffer.concat([...frames, goodbye])
  for (let at = 0; at < bytes.length; at += chop ?? bytes.length) {
    if (!client.socket.writable) return
    const piece = bytes.subarray(at, at + (chop ?? bytes.length))
    if (!client.socket.write(piece)) await Promise.race([once(client.socket, 'drain'), once(client.socket, 'close')])
    else if (bytes.length / (chop ?? bytes.length) < 1000) await new Promise(setImmediate)
  }
  if (filler !== undefined && client.socket.writable) client.socket.write(filler)
}

/** A frame of a server: its opcode and its bytes. */
async function takeFrame(client: RawConnection): Promise<[number, string]> {
  const head = await client.takeBytes(2)
  const short = head.charCodeAt(1) & 127
  const extended = await client.takeBytes(short === 126 ? 2 : short === 127 ? 8 : 0)
  const length = short < 126 ? short : Number.parseInt(Buffer.from(extended, 'latin1').toString('hex'), 16)
  return [head.charCodeAt(0) & 15, head + extended + (await client.takeBytes(length))]
}

function digest(text: string): string {
  return `${text.length} ${createHash('sha256').update(text, 'latin1').digest('hex')}`
}

test.each(Object.keys(sections))(
  '%s: a client gets through the gateway, byte for byte, what it gets without it',
  async (name) => {
    const { direct, through, pool } = await openEcho()
    const expected: Record<string, string> = {}
    const seen: Record<string, string> = {}
    for (const [title, one] of Object.entries(sections[name] ?? {})) {
      expected[title] = await outcome(direct, one)
      seen[title] = await outcome(through, one)
    }
    expect(seen).toEqual(expected)
    expect(Object.values(expected).filter((text) => text.startsWith('HTTP/1.1 101 ')).length).toBeGreaterThan(7)
    expect(await pool.idle()).toBe(0)
  },
)

test('whatever frames a client sends, in whatever pieces, it gets what it gets without the gateway', async () => {
  const maxPayload = 64 * 1024
  const { direct, through, pool } = await openEcho(maxPayload)
  const anyFrame = fc
    .record({
      opcode: fc.oneof({ weight: 8, arbitrary: fc.constantFrom(0, 1, 2, 8, 9, 10) }, fc.integer({ min: 0, max: 15 })),
      payload: fc.oneof(fc.string(), fc.uint8Array({ maxLength: 300 })),
      fin: fc.boolean(),
      rsv: fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, fc.integer({ min: 1, max: 7 })),
      masked: fc.oneof({ weight: 19, arbitrary: fc.constant(true) }, fc.constant(false)),
    })
    .map(({ opcode, payload, ...options }) => frame(opcode, Buffer.from(payload), options))
  const anyCase = fc.record({
    frames: fc.array(
      fc.oneof(
        { weight: 9, arbitrary: anyFrame },
        fc.uint8Array({ maxLength: 20 }).map((it) => Buffer.from(it)),
      ),
      {
        maxLength: 12,
      },
    ),
    chop: fc.integer({ min: 1, max: 400 }),
    // Bytes that are no frame may announce one that swallows the goodbye.
    filler: fc.constant(Buffer.alloc(maxPayload)),
  })
  await fc.assert(
    fc.asyncProperty(anyCase, async (one) => {
      expect(await outcome(through, one)).toBe(await outcome(direct, one))
    }),
    limits,
  )
  expect(await pool.idle()).toBe(0)
})

test('whatever a worker sends on an open WebSocket, in whatever pieces, reaches the client as it is', async () => {
  let script: { frames: readonly Buffer[]; chop: number } = { frames: [], chop: 1 }
  const worker = rawWorker(async (connection) => {
    await connection.head()
    const { frames, chop } = script
    connection.send('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n')
    const bytes = Buffer.concat(frames)
    for (let at = 0; at < bytes.length; at += chop) {
      connection.socket.write(bytes.subarray(at, at + chop))
      await new Promise(setImmediate)
    }
    connection.socket.end()
    await connection.rest()
  })
  const pool = new FakePool({ host: '127.0.0.1', port: await listenOn(worker) })
  const { port } = await openGateway(pool)
  const anyBytes = fc.array(
    fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((it) => Buffer.from(it)),
      fc
        .record({ opcode: fc.integer({ min: 0, max: 15 }), payload: fc.string(), fin: fc.boolean() })
        .map((it) => frame(it.opcode, it.payload, { fin: it.fin, masked: false })),
    ),
    { maxLength: 12 },
  )
  await fc.assert(
    fc.asyncProperty(anyBytes, fc.integer({ min: 1, max: 400 }), async (frames, chop) => {
      script = { frames, chop }
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
      const client = new RawConnection(socket)
      client.send(handshake(script))
      await client.head()
      const got = await client.rest()
      socket.destroy()
      expect(Buffer.from(got, 'latin1').toString('hex')).toBe(Buffer.concat(frames).toString('hex'))
    }),
    limits,
  )
  expect(await pool.idle()).toBe(0)
})
