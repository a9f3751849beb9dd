import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { Ending } from '../../../src/adapters/h3/ending.ts'

/** Both ends of a connection. Nothing is read of ours until it is resumed, nor heard. */
async function open(kind: 'port' | 'socket') {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true })
  const path = kind === 'socket' ? join(temporary(), 's') : undefined
  server.listen(path === undefined ? { port: 0, host: '127.0.0.1' } : { path })
  await once(server, 'listening')
  const address = server.address() as { port: number } | string
  const ours = connect(typeof address === 'string' ? { path: address } : { port: address.port, host: '127.0.0.1' })
  ours.pause()
  const [[worker]] = (await Promise.all([once(server, 'connection'), once(ours, 'connect')])) as [[Socket], unknown]
  worker.on('error', () => {})
  onTestFinished(() => {
    ours.destroy()
    worker.destroy()
    server.close()
  })
  return { ours, worker, ending: new Ending(ours, kind === 'socket') }
}

function temporary(): string {
  const directory = mkdtempSync(join(tmpdir(), 'ending-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  return directory
}

const write = (socket: Socket, text: string) => new Promise((resolve) => socket.write(text, resolve))

/** What is left to read, and with what it ends. */
async function rest({ ours, ending }: { ours: Socket; ending: Ending }) {
  const read: Buffer[] = []
  ours.on('data', (chunk) => read.push(chunk))
  ours.resume()
  await once(ours, 'end')
  return { text: Buffer.concat(read).toString(), reset: ending.reset }
}

const aReset = expect.objectContaining({ code: 'ECONNRESET' }) as Error

describe('what a worker sent is read to its end', () => {
  test('of a worker that closes', async () => {
    const connection = await open('port')
    connection.worker.end('whole')
    await once(connection.worker, 'finish')
    expect(await rest(connection)).toEqual({ text: 'whole', reset: undefined })
  })

  test.each([1, 2, 3])('of a worker that closes while it is written to, %i times behind that', async (times) => {
    const connection = await open('port')
    await write(connection.worker, 'whole')
    connection.worker.destroy()
    await once(connection.worker, 'close')
    for (let written = 0; written < times; written++) expect(await write(connection.ours, 'x')).toBeFalsy()
    expect(await rest(connection)).toEqual({ text: 'whole', reset: undefined })
  })

  test('of a worker that resets: a reset', async () => {
    const connection = await open('port')
    await write(connection.worker, 'half')
    const ended = rest(connection)
    await once(connection.ours, 'data')
    connection.worker.resetAndDestroy()
    expect(await ended).toEqual({ text: 'half', reset: aReset })
  })

  test('of a worker that resets behind what has not been read: a reset', async () => {
    const connection = await open('port')
    await write(connection.worker, 'half')
    connection.worker.resetAndDestroy()
    await once(connection.worker, 'close')
    expect(await rest(connection)).toEqual({ text: 'half', reset: aReset })
  })

  test.each([1, 2])('of a worker that resets, where %i writes were told first: a reset', async (times) => {
    const connection = await open('port')
    await write(connection.worker, 'half')
    connection.worker.resetAndDestroy()
    await once(connection.worker, 'close')
    for (let written = 0; written < times; written++) expect(await write(connection.ours, 'x')).toBeFalsy()
    expect(await rest(connection)).toEqual({ text: 'half', reset: aReset })
  })

  test.each(['port', 'socket'] as const)('of what had come before a reset and was not taken, by a %s', async (kind) => {
    const { ours, worker, ending } = await open(kind)
    // It closes with that unread, which is a reset.
    await write(ours, 'unread')
    await write(worker, 'half')
    let told = 0
    ours.on('readable', () => told++)
    ours.read(0)
    await vi.waitFor(() => expect(told).toBe(1))
    worker.destroy()
    await vi.waitFor(() => expect(told).toBe(2))
    const end = once(ours, 'end')
    expect(String(ours.read())).toBe('half')
    ours.read()
    await end
    // All that a unix socket was given is there, whatever becomes of the one who gave it.
    expect(ending.reset).toEqual(kind === 'port' ? aReset : undefined)
  })

  test('and what fails for another reason ends it', async () => {
    const { ours } = await open('port')
    const failed = once(ours, 'error')
    ours.destroy(new Error('Took too long'))
    expect(await failed).toEqual([new Error('Took too long')])
  })
})
