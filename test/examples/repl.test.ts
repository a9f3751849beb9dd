import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { root, usesBuild } from '../_build.ts'

usesBuild()

let child: ChildProcess
let url: string

beforeAll(async () => {
  const port = await freePort()
  url = `http://127.0.0.1:${port}/`
  child = start({ PORT: String(port) })
  await reachable(() => fetch(`${url}health`))
})

afterAll(async () => {
  child.kill('SIGTERM')
  await once(child, 'exit')
})

describe('the REPL', () => {
  test('keeps what a script has declared', async () => {
    expect(await evaluate('const a = 1; let b = 40; function f() { return a + b }')).toMatchObject({ status: 200 })
    expect(await evaluate('b++; f()')).toEqual({ status: 200, body: { value: '42', pid: child.pid } })
  })

  test.each([
    ['nope', 'ReferenceError: nope is not defined'],
    ['1 +', 'SyntaxError: Unexpected end of input'],
    ['throw 1', 'Uncaught 1'],
    ['throw { get message() { throw 1 }, name: "x" }', 'Uncaught value that cannot be shown'],
    ['for (;;);', 'Error: Script execution timed out after 1000ms'],
    ['Promise.resolve().then(() => { for (;;); })', 'Error: Script execution timed out after 1000ms'],
  ])('answers 400 to %s', async (code, error) => {
    expect(await evaluate(code)).toMatchObject({ status: 400, body: { error } })
  })

  test('shows values as Node does, without running their code', async () => {
    const code = 'new Proxy({}, { get() { for (;;); }, ownKeys() { for (;;); } })'
    expect(await evaluate(code)).toMatchObject({ status: 200, body: { value: expect.stringContaining('Proxy') } })
    expect(await evaluate('[1, { a: "x" }]')).toMatchObject({ body: { value: "[ 1, { a: 'x' } ]" } })
  })

  test('speaks over a WebSocket too, in the same scope', async () => {
    await evaluate('var shared = 7')
    const socket = new WebSocket(`${url}ws`)
    await once(socket, 'open')
    expect(await ask(socket, 'shared')).toEqual({ value: '7', pid: child.pid })
    expect(await ask(socket, 'throw new Error("no")')).toEqual({ error: 'Error: no', pid: child.pid })
    socket.close()
  })

  test('has a page whose URLs are relative', async () => {
    const response = await fetch(url)
    const page = await response.text()
    expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8')
    expect(page).toContain(`<b id="pid">${child.pid}</b>`)
    expect(page).not.toMatch(/(?:src|href)=/)
  })

  test.each([
    ['http://evil.example', 403],
    ['null', 403],
    ['http://127.0.0.1:1', 403],
    ['self', 200],
  ])('runs code for a page of the origin %s: %d', async (name, status) => {
    const origin = name === 'self' ? new URL(url).origin : name
    expect(await evaluate('1', { origin })).toMatchObject({ status })
    const socket = new WebSocket(`${url}ws`, { origin })
    const answer = await Promise.race([
      once(socket, 'open').then(() => 200),
      once(socket, 'unexpected-response').then(([, response]: { statusCode: number }[]) => response?.statusCode),
    ])
    expect(answer).toBe(status)
    socket.terminate()
  })

  test('trusts no name that a stranger can make resolve to this machine', async () => {
    const host = `rebound.example:${new URL(url).port}`
    expect(await evaluate('1', { origin: `http://${host}`, host })).toMatchObject({ status: 403 })
  })

  test.each([
    ['GET', 'nothing', '', 404],
    ['GET', 'eval', '', 404],
    ['POST', 'eval', 'x'.repeat(1024 * 1024 + 1), 413],
  ])('%s /%s', async (method, path, body, status) => {
    const response = await fetch(url + path, { method, ...(body && { body }) })
    expect(response.status).toBe(status)
    expect(await response.json()).toHaveProperty('error')
  })

  test('serves on a unix socket and removes it at its end', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'corral-repl-'))
    const SOCKET = join(folder, 'socket')
    const worker = start({ SOCKET })
    await reachable(() => overSocket(SOCKET))
    expect(existsSync(SOCKET)).toBe(true)
    worker.kill('SIGTERM')
    expect(await once(worker, 'exit')).toEqual([0, null])
    expect(existsSync(SOCKET)).toBe(false)
    rmSync(folder, { recursive: true })
  })
})

function start(env: Record<string, string>): ChildProcess {
  return spawn(process.execPath, [`${root}build/examples/repl/server.js`], { env, stdio: 'inherit' })
}

/** `fetch` does not send `Host` as asked. */
async function evaluate(code: string, headers: Record<string, string> = {}) {
  const post = request(`${url}eval`, { method: 'POST', headers })
  post.end(code)
  const [response] = (await once(post, 'response')) as [AsyncIterable<Buffer> & { statusCode: number }]
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk)
  return { status: response.statusCode, body: JSON.parse(Buffer.concat(chunks).toString()) as unknown }
}

async function ask(socket: WebSocket, code: string): Promise<unknown> {
  socket.send(code)
  const [message] = (await once(socket, 'message')) as [Buffer]
  return JSON.parse(message.toString())
}

async function overSocket(socketPath: string): Promise<void> {
  const get = request({ socketPath, path: '/health' })
  get.end()
  const [response] = (await once(get, 'response')) as [{ resume(): void }]
  response.resume()
}

/** Tries until it answers: a process that has just been started listens a moment later. */
async function reachable(attempt: () => Promise<unknown>): Promise<void> {
  for (;;) {
    const ok = await attempt().then(
      () => true,
      () => false,
    )
    if (ok) return
    await new Promise((resolve) => {
      setTimeout(resolve, 10)
    })
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
