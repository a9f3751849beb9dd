import { EventEmitter, once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { connect } from 'node:net'
import { Duplex } from 'node:stream'
import { describe, expect, onTestFinished, test } from 'vitest'
import { connectReused, divert } from '../../../src/adapters/h3/intake.ts'

describe('a connection that is read into one buffer', () => {
  test('is a stream like any other until it is diverted', async () => {
    const { reader, source } = await connection()
    const content = numbers(1_000_000)
    source.end(content)
    const chunks: Buffer[] = []
    for await (const chunk of reader) chunks.push(chunk as Buffer)
    expect(Buffer.concat(chunks).equals(content)).toBe(true)
  })

  test('reads nothing over bytes that wait to be written', async () => {
    const { reader, source } = await connection()
    const { near, far } = await pair()
    divert(reader, near, (chunk) => {
      if (!near.write(chunk)) reader.pause()
    })
    near.on('drain', () => reader.resume())
    reader.on('end', () => near.end())
    reader.resume()
    const content = numbers(8_000_000)
    sendInPieces(source, content)
    // The writer is held up over and over: by a reader that takes a little at a time, and by nothing at all.
    const chunks: Buffer[] = []
    for await (const chunk of far) {
      chunks.push(Buffer.from(chunk as Buffer))
      if (chunks.length % 8 === 0) await new Promise(setImmediate)
    }
    expect(Buffer.concat(chunks).equals(content)).toBe(true)
  })

  test('nor over small chunks that wait behind each other without holding it up', async () => {
    const { reader, source } = await connection()
    const { near, far } = await pair()
    const passed = new EventEmitter()
    divert(reader, near, (chunk) => {
      near.write(chunk)
      passed.emit('chunk')
    })
    reader.resume()
    near.cork()
    const content = numbers(4_000)
    for (let at = 0; at < content.length; at += 400) {
      const next = once(passed, 'chunk')
      source.write(content.subarray(at, at + 400))
      await next
    }
    near.uncork()
    near.end()
    const chunks: Buffer[] = []
    for await (const chunk of far) chunks.push(chunk as Buffer)
    expect(Buffer.concat(chunks).equals(content)).toBe(true)
  })

  test('nor over what another kind of stream was given, which may keep it', async () => {
    const { reader, source } = await connection()
    const kept: Buffer[] = []
    const keeper = new Duplex({
      read: () => {},
      write: (chunk: Buffer, _encoding, done) => {
        kept.push(chunk)
        done()
      },
    })
    divert(reader, keeper as Socket, (chunk) => void keeper.write(chunk))
    reader.resume()
    const content = numbers(8_000_000)
    sendInPieces(source, content)
    await once(reader, 'end')
    expect(Buffer.concat(kept).equals(content)).toBe(true)
  })
})

/** Bytes of which no two stretches are alike. */
function numbers(length: number): Buffer {
  const content = Buffer.alloc(length)
  for (let at = 0; at + 4 <= length; at += 4) content.writeUInt32LE(at, at)
  return content
}

/** Pieces of every size, the smallest in between the largest. */
function sendInPieces(source: Socket, content: Buffer): void {
  for (let at = 0, i = 0; at < content.length; i++) {
    const size = 1 + ((i * 7919) % 90_000)
    source.write(content.subarray(at, at + size))
    at += size
  }
  source.end()
}

async function connection(): Promise<{ reader: Socket; source: Socket }> {
  return accept((port) => connectReused({ host: '127.0.0.1', port })).then(({ near, far }) => ({
    reader: near,
    source: far,
  }))
}

function pair(): Promise<{ near: Socket; far: Socket }> {
  return accept((port) => connect({ host: '127.0.0.1', port }))
}

async function accept(open: (port: number) => Socket): Promise<{ near: Socket; far: Socket }> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const near = open((server.address() as AddressInfo).port)
  const [far] = (await once(server, 'connection')) as [Socket]
  server.close()
  onTestFinished(() => {
    near.destroy()
    far.destroy()
  })
  return { near, far }
}
