import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, linkSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { PinnedSocket } from '../../../src/runtime/process/pinned-socket.ts'

let directory: string
let path: string
let link: string
let pin: PinnedSocket
const closing = new Set<() => void>()

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'pin-'))
  path = join(directory, 'socket')
  link = join(directory, 'link')
  pin = new PinnedSocket({ path, view: 'own', link, owner: process.getuid!() })
})

afterEach(() => {
  pin.releaseNow()
  for (const close of closing) close()
  closing.clear()
  rmSync(directory, { recursive: true })
})

/** A server that says its name to whoever connects. */
async function serve(at: string, name: string): Promise<void> {
  const server = createServer((socket) => socket.end(name)).listen(at)
  closing.add(() => server.close())
  await once(server, 'listening')
}

async function nameAt(at: string): Promise<string> {
  const socket = connect(at)
  let name = ''
  for await (const chunk of socket) name += String(chunk)
  return name
}

const descriptors = () => readdirSync('/proc/self/fd').length

describe.runIf(process.platform === 'linux')('a pinned socket', () => {
  test('is reached whatever is put in its place later', async () => {
    await serve(path, 'worker')
    await serve(join(directory, 'other'), 'other')
    pin.take(process.pid)
    expect(await nameAt(link)).toBe('worker')
    renameSync(path, join(directory, 'away'))
    symlinkSync(join(directory, 'other'), path)
    expect(await nameAt(link)).toBe('worker')
    expect(() => pin.take(process.pid)).toThrow('not a unix socket')
    expect(await nameAt(link)).toBe('worker')
  })

  test('is exchanged for the one that is there when it is taken again', async () => {
    await serve(path, 'first')
    pin.take(process.pid)
    renameSync(path, join(directory, 'away'))
    await serve(path, 'second')
    const before = descriptors()
    pin.take(process.pid)
    pin.take(process.pid)
    expect(descriptors()).toBe(before)
    expect(await nameAt(link)).toBe('second')
  })

  test.each([
    ['a symbolic link to a socket', () => symlinkSync(join(directory, 'other'), path)],
    ['a directory', () => mkdirSync(path)],
    ['a FIFO', () => execFileSync('mkfifo', [path])],
    ['a link to a file', () => symlinkSync('/etc/passwd', path)],
    ['a link to nothing', () => symlinkSync('/nowhere', path)],
  ])('is not %s', async (_, make) => {
    await serve(join(directory, 'other'), 'other')
    make()
    const before = descriptors()
    expect(() => pin.take(process.pid)).toThrow(`${path} is not a unix socket, and is not followed`)
    expect(existsSync(link)).toBe(false)
    expect(descriptors()).toBe(before)
  })

  test("is not another user's, by whatever name", async () => {
    await serve(join(directory, 'other'), 'other')
    linkSync(join(directory, 'other'), path)
    const foreign = new PinnedSocket({ path, view: 'own', link, owner: process.getuid!() + 1 })
    expect(() => foreign.take(process.pid)).toThrow(`${path} is a socket of user ${process.getuid!()}`)
    expect(existsSync(link)).toBe(false)
  })

  test('that is not there yet is told as such', () => {
    expect(() => pin.take(process.pid)).toThrow(expect.objectContaining({ code: 'ENOENT' }))
  })

  test('leaves no way to what comes by its descriptor later, and cannot be taken again', async () => {
    const before = descriptors()
    await serve(path, 'worker')
    pin.take(process.pid)
    await pin.release()
    expect(existsSync(link)).toBe(false)
    expect(descriptors()).toBe(before + 1) // The server's own.
    expect(() => pin.take(process.pid)).toThrow('gone')
    expect(existsSync(link)).toBe(false)
  })
})
