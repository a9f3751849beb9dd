import { describe, expect, test } from 'vitest'
import { signal } from '../_scene.ts'
import type { RawConnection } from '../_scene.ts'
import { echo, expectInStep, expectRefusal, forwarded, openRawStage, openStage, request, response } from './_stage.ts'

const line = 'POST /first HTTP/1.1'
const end = '0\r\n\r\n'

function upload(body: string, fields = ['Transfer-Encoding: chunked']): string {
  return request(line, fields, body)
}

describe('chunks are undone and made anew', () => {
  test.each<[string, string, string]>([
    ['without extensions', '3;a=b;c="d"\r\nabc\r\n0;x\r\n\r\n', 'abc'],
    ['without zeros in front of a size', `${'0'.repeat(100)}3\r\nabc\r\n${end}`, 'abc'],
    ['of sizes in either case', `a\r\n0123456789\r\nB\r\n01234567890\r\n${end}`, '012345678901234567890'],
    ['of bytes that look like chunks', `7\r\n0\r\n\r\nGE\r\n${end}`, '0\r\n\r\nGE'],
    ['without trailers', '3\r\nabc\r\n0\r\nX-Trailer: 1\r\nX-Session-Id: blue\r\n\r\n', 'abc'],
  ])('%s', async (_name, body, content) => {
    const whole = signal<string>()
    const stage = await openRawStage(async (worker) => {
      const head = await worker.head()
      const [chunks, text] = await readChunks(worker)
      whole.resolve(text)
      expect(chunks).toMatch(/^(?:[1-9a-f][\da-f]*\r\n[^]*\r\n)*0\r\n\r\n$/)
      echo(worker, head)
      echo(worker, await worker.head())
    })
    stage.client.send(upload(body))
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'POST /first' })
    const head = forwarded(stage, { line, framing: 'transfer-encoding: chunked' })
    expect(stage.got.join('').slice(0, head.length)).toBe(head)
    expect(await whole.promise).toBe(content)
    await expectInStep(stage)
  })

  test('an empty body of chunks is a length of 0', async () => {
    const stage = await openStage()
    stage.client.send(upload(end))
    expect(await response(stage.client)).toMatchObject({ status: 200, body: 'POST /first' })
    expect(stage.got).toEqual([forwarded(stage, { line, framing: 'content-length: 0' })])
    await expectInStep(stage)
  })
})

describe('a length', () => {
  test.each(['GET', 'HEAD', 'DELETE', 'OPTIONS'])('is kept with %s, and so is its body', async (method) => {
    const stage = await openStage((worker, text) => {
      if (text.startsWith('HEAD')) worker.send('HTTP/1.1 200 OK\r\n\r\n')
      else echo(worker, text)
    })
    stage.client.send(request(`${method} /first HTTP/1.1`, ['Content-Length: 3'], 'abc'))
    expect((await response(stage.client)).status).toBe(200)
    expect(stage.got.join('')).toMatch(/\r\ncontent-length: 3\r\n\r\nabc$/)
    await expectInStep(stage)
  })
})

const malformed: [string, string][] = [
  ['a size that is no number', 'z\r\n'],
  ['a size with a prefix', '0x3\r\n'],
  ['a signed size', '+3\r\n'],
  ['a negative size', '-3\r\n'],
  ['a size beyond 64 bits', '10000000000000003\r\n'],
  ['a space behind a size', '3 \r\n'],
  ['no size', '\r\n'],
  ['a size that ends with bare LF', '3\nabc\n'],
  ['a size that ends with bare CR', '3\rabc'],
  ['an extension that ends with bare LF', '3;a\nabc\r\n'],
  ['an extension with a bare CR', '3;a\rb\r\nabc\r\n'],
  ['an extension with LF in quotes', '3;a="\n"\r\nabc\r\n'],
  ['a chunk that is longer than it says', '3\r\nabcde\r\n'],
  ['a chunk without its end', `3\r\nabc${end}`],
  ['a chunk that ends with bare LF', `3\r\nabc\n${end}`],
  ['a length among the trailers', '3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n'],
  ['a coding among the trailers', '3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n'],
  ['a request among the trailers', '3\r\nabc\r\n0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['extensions of more than 16 KiB', `3;${'a'.repeat(17 * 1024)}\r\nabc\r\n`],
]

describe('chunks that are none: 400, and the worker never gets an end of the body', () => {
  test.each(malformed)('%s', async (_name, body) => {
    const stage = await openStage()
    stage.client.send(upload(body + end + request('GET /smuggled HTTP/1.1')))
    await expectRefusal(stage, 400, 'REQUEST_MALFORMED')
    expect(stage.got.join('')).not.toMatch(/\r\n0\r\n\r\n|smuggled/)
  })

  test.each(malformed)('%s, behind one that is', async (_name, body) => {
    const stage = await openStage()
    stage.client.send(upload('5\r\nfirst\r\n'))
    await stage.pool.until(() => stage.pool.touched > 0)
    stage.client.send(body + end + request('GET /smuggled HTTP/1.1'))
    await expectRefusal(stage, 400, 'REQUEST_MALFORMED')
    expect(stage.got.join('')).not.toMatch(/\r\n0\r\n\r\n|smuggled/)
  })
})

/** Reads chunks up to the last one, and returns them and what they contain. */
async function readChunks(worker: RawConnection): Promise<[string, string]> {
  let chunks = ''
  let content = ''
  for (;;) {
    const size = await worker.take('\r\n')
    const data = await worker.takeBytes(Number.parseInt(size, 16) + 2)
    chunks += size + data
    if (data.length === 2) return [chunks, content]
    content += data.slice(0, -2)
  }
}
