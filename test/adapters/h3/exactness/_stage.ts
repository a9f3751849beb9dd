import { expect } from 'vitest'
import type { GatewayOptions } from 'corral/h3'
import type { RawConnection, Scene } from '../_scene.ts'
import { dial, openScene, rawWorker } from '../_scene.ts'

/** What a worker does with a request, whose bytes it has read: answers it, or does anything else to the connection. */
export type Act = (worker: RawConnection, request: string) => unknown

export interface Stage extends Scene {
  /** Every byte that the worker got, by connection, without those that were opened only to see whether it lives. */
  readonly got: string[]
  readonly client: RawConnection
}

/** A gateway, a raw client connected to it, and a raw worker behind it that keeps every byte it gets. */
export function openStage(act: Act = echo, options: Partial<GatewayOptions> = {}): Promise<Stage> {
  return openRawStage(async (worker) => {
    for (;;) await act(worker, await readRequest(worker))
  }, options)
}

/** The same with a worker that reads its connections by hand, and may answer before it has read a request. */
export async function openRawStage(
  serve: (worker: RawConnection) => Promise<unknown>,
  options: Partial<GatewayOptions> = {},
): Promise<Stage> {
  const got: string[] = []
  const worker = rawWorker(async (connection) => {
    let index: number | undefined
    connection.socket.prependListener('data', (chunk: Buffer) => {
      index ??= got.push('') - 1
      got[index] += chunk.toString('latin1')
    })
    await serve(connection)
  })
  const scene = await openScene(worker, options)
  return { ...scene, got, client: await dial(scene.port) }
}

/** Answers with method and target, so that it shows which request a response belongs to. */
export function echo(worker: RawConnection, request: string): void {
  const body = request.split(' ', 2).join(' ')
  worker.send(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
}

/** A request as the gateway sends it: it writes a length in one way, and chunks in one way. */
async function readRequest(connection: RawConnection): Promise<string> {
  const head = await connection.head()
  const length = /^content-length: (\d+)\r$/im.exec(head)?.[1]
  if (length !== undefined) return head + (await connection.takeBytes(Number(length)))
  return /^transfer-encoding: /im.test(head) ? head + (await connection.take('\r\n0\r\n\r\n')) : head
}

/** A request of the session `red`. */
export function request(line: string, fields: readonly string[] = [], body = ''): string {
  return [line, 'Host: a', 'X-Session-Id: red', ...fields, '', body].join('\r\n')
}

export interface Forwarded {
  readonly line: string
  /** The fields of the client that are left, without its session id. */
  readonly fields?: readonly string[]
  /** `X-Forwarded-Host`. @default 'a' */
  readonly host?: string
  /** The field that frames the body. */
  readonly framing?: string
  readonly body?: string
}

/** Exactly what the worker gets of a request of the session `red`. */
export function forwarded({ port, pool }: Scene, { line, fields = [], host = 'a', framing, body = '' }: Forwarded) {
  return [
    line,
    `host: 127.0.0.1:${(pool.address as { port: number }).port}`,
    'connection: keep-alive',
    'X-Session-Id: red',
    ...fields,
    'X-Forwarded-For: 127.0.0.1',
    'X-Forwarded-Proto: http',
    `X-Forwarded-Host: ${host}`,
    `X-Forwarded-Port: ${port}`,
    `Forwarded: for=127.0.0.1;host=${host};proto=http`,
    ...(framing === undefined ? [] : [framing]),
    '',
    body,
  ].join('\r\n')
}

/** Takes a response with a length, and returns its status and its body. */
export async function response(client: RawConnection): Promise<{ status: number; head: string; body: string }> {
  const head = await client.head()
  const status = Number(head.split(' ', 2)[1])
  const length = Number(/^content-length: (\d+)\r$/im.exec(head)?.[1] ?? 0)
  return { status, head, body: await client.takeBytes(length) }
}

const next = 'GET /next HTTP/1.1'

/** That the client's connection is in step: the next request is answered with its own response, and is the next that is sent. */
export async function expectInStep(stage: Stage): Promise<void> {
  const before = stage.got.join('').length
  stage.client.send(request(next))
  expect(await response(stage.client)).toMatchObject({ status: 200, body: 'GET /next' })
  expect(stage.got.join('').slice(before)).toBe(forwarded(stage, { line: next }))
  expect(await stage.pool.idle()).toBe(0)
}

/** That the client got nothing but a problem, which tells nothing of the inside, and that its connection is closed. */
export async function expectRefusal(stage: Stage, status: number, code: string): Promise<void> {
  const answer = await stage.client.rest()
  const [head = '', body = '', ...more] = answer.split('\r\n\r\n')
  expect(head).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
  expect(head).toMatch(/^connection: close$/im)
  expect(JSON.parse(body)).toEqual({
    type: `urn:corral:problem:${code.toLowerCase().replaceAll('_', '-')}`,
    title: expect.any(String),
    status,
    code,
  })
  expect(more).toEqual([])
  expect(answer).not.toMatch(/127\.0\.0\.1|\/src\/|node:|secret/)
  await stage.pool.until(() => stage.pool.open === 0)
}
