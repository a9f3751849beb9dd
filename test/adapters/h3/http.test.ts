import { createHash } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { request } from 'node:http'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { FakePool } from './_pool.ts'
import { Pour } from './_pour.ts'
import type { Handler } from './_scene.ts'
import {
  dial,
  fieldsOf,
  get,
  httpWorker,
  listenOn,
  openGateway,
  openScene,
  rawWorker,
  signal,
  textOf,
} from './_scene.ts'

const echoHead: Handler = (req, res) => {
  res.end(JSON.stringify({ method: req.method, url: req.url, headers: req.rawHeaders }))
}

describe('requests', () => {
  test('the raw target reaches the worker byte for byte', async () => {
    const worker = rawWorker(async (connection) => {
      const head = await connection.head()
      const line = head.slice(0, head.indexOf('\r\n'))
      connection.send(`HTTP/1.1 200 OK\r\nContent-Length: ${line.length}\r\nConnection: close\r\n\r\n${line}`)
    })
    const { port } = await openScene(worker)
    for (const target of ['/%41/../b//c;d?x=%zz&y=a+b&&', '//host/path', '/?q="<>{}|^`', '/a%00b', '/?', '/#frag']) {
      const client = await dial(port)
      client.send(`GET ${target} HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: close\r\n\r\n`)
      expect(await client.rest()).toContain(`\r\n\r\nGET ${target} HTTP/1.1`)
    }
  })

  test('absolute-form becomes origin-form, and its authority takes the place of Host', async () => {
    const { port } = await openScene(echoHead)
    const client = await dial(port)
    client.send(
      'GET http://example.org:81?q=1 HTTP/1.1\r\nHost: other\r\nX-Session-Id: red\r\nConnection: close\r\n\r\n',
    )
    const answer = await client.rest()
    expect(answer).toContain('"url":"/?q=1"')
    expect(answer).toContain('"X-Forwarded-Host","example.org:81"')
  })

  test('OPTIONS * is answered by the gateway and costs no session', async () => {
    const { port, pool } = await openScene(echoHead)
    const client = await dial(port)
    client.send('OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
    expect(await client.rest()).toMatch(/^HTTP\/1\.1 204 /)
    expect(pool.acquired).toEqual([])
  })

  test('of the body of OPTIONS *, which nobody wants, a MiB is read, and no more', async () => {
    const { port } = await openScene(echoHead)
    const client = await dial(port)
    const ping = (size: number) => `OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: ${size}\r\n\r\n${'x'.repeat(size)}`
    client.send(ping(1024 * 1024) + ping(2 * 1024 * 1024) + ping(0))
    expect((await client.rest()).match(/HTTP\/1\.1 204 /g)).toHaveLength(2)
  })

  test('every method is forwarded, with or without a body', async () => {
    const { port } = await openScene(async (req, res) => {
      res.setHeader('x-seen', `${req.method} ${req.headers['content-length'] ?? req.headers['transfer-encoding']}`)
      res.end(await textOf(req))
    })
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND', 'REPORT']) {
      const empty = await dial(port)
      empty.send(`${method} / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: close\r\n\r\n`)
      expect(await empty.rest()).toContain(`x-seen: ${method} `)
      const full = await dial(port)
      full.send(
        `${method} / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello`,
      )
      const answer = await full.rest()
      expect(answer).toContain(`x-seen: ${method} 5`)
      expect(answer).toMatch(/hello(?:\r\n0\r\n\r\n)?$/)
    }
  })

  test('a chunked upload stays chunked and arrives whole', async () => {
    const { port } = await openScene(async (req, res) => {
      const text = await textOf(req)
      res.end(`${req.headers['transfer-encoding']} ${text}`)
    })
    const client = await dial(port)
    client.send(
      'POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n',
    )
    client.send('3\r\nabc\r\n')
    client.send('2\r\nde\r\n0\r\nX-Trailer: dropped\r\n\r\n')
    expect(await client.rest()).toMatch(/chunked abcde/)
  })

  test('a worker on a unix socket is reached', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'corral-'))
    onTestFinished(() => rm(folder, { recursive: true }))
    const socketPath = join(folder, 'w.sock')
    await listenOn(httpWorker(echoHead), socketPath)
    const { port } = await openGateway(new FakePool({ socketPath }))
    const answer = (await (await get(port, '/x')).json()) as { url: string; headers: string[] }
    expect(answer.url).toBe('/x')
    expect(answer.headers).toContain('localhost')
  })

  test('one connection to the worker serves request after request', async () => {
    let connections = 0
    const server = httpWorker(echoHead).on('connection', () => connections++)
    const { port } = await openScene(server)
    for (let i = 0; i < 5; i++) await (await get(port, '/')).text()
    expect(connections).toBe(1)
  })

  test('the lease is touched for chunks in both directions', async () => {
    const { port, pool } = await openScene(async (req, res) => res.end(await textOf(req)))
    await (
      await fetch(`http://127.0.0.1:${port}`, { method: 'POST', body: 'x', headers: { 'x-session-id': 'red' } })
    ).text()
    expect(pool.touched).toBe(2)
  })
})

describe('responses', () => {
  test('status, reason, header names, order, duplicates and bytes arrive as the worker sent them', async () => {
    const worker = rawWorker(async (connection) => {
      await connection.head()
      connection.send(
        'HTTP/1.1 299 Quite \xe9\r\nX-CasE: 1\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Dup: 1\r\nX-Latin: \xe9\xff\r\n' +
          'X-Dup: 2\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 2\r\nX-Empty:\r\n\r\nok',
      )
    })
    const { port } = await openScene(worker)
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: close\r\n\r\n')
    const answer = await client.rest()
    expect(answer.slice(answer.indexOf('\r\n'))).toBe(
      '\r\nX-CasE: 1\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Dup: 1\r\nX-Latin: \xe9\xff\r\nX-Dup: 2\r\n' +
        'Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 2\r\nX-Empty: \r\nConnection: close\r\n\r\nok',
    )
    expect(answer).toMatch(/^HTTP\/1\.1 299 /)
  })

  test('HEAD has the header fields and no content', async () => {
    const { port } = await openScene((_req, res) => res.writeHead(200, { 'content-length': 12 }).end())
    const client = await dial(port)
    client.send('HEAD / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
    expect(fieldsOf(await client.head())['content-length']).toEqual(['12'])
    client.send('HEAD / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: close\r\n\r\n')
    expect((await client.rest()).split('\r\n\r\n')[1]).toBe('')
  })

  test.each([
    [304, ['12']],
    [204, undefined],
  ])('%i that tells the length of what it does not bring ends at its head', async (status, length) => {
    const worker = rawWorker(async (connection) => {
      for (;;) {
        await connection.head()
        connection.send(`HTTP/1.1 ${status} Nothing\r\nContent-Length: 12\r\nETag: "x"\r\n\r\n`)
      }
    })
    const { port, pool, failures } = await openScene(worker)
    const client = await dial(port)
    for (let i = 0; i < 3; i++) {
      client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
      const fields = fieldsOf(await client.head())
      expect(fields).toMatchObject({ etag: ['"x"'] })
      expect(fields['content-length']).toEqual(length)
      expect(await pool.idle()).toBe(0)
    }
    expect(failures).toEqual([])
  })

  test('204 and 304 have no content, and the connection lives on', async () => {
    const { port } = await openScene((req, res) => {
      res.writeHead(Number(req.url?.slice(1)), { etag: '"x"' }).end()
    })
    const client = await dial(port)
    for (const status of [204, 304, 204]) {
      client.send(`GET /${status} HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n`)
      const head = await client.head()
      expect(head).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
      expect(fieldsOf(head)).not.toHaveProperty('transfer-encoding')
      expect(client.received).toBe('')
    }
  })

  test('trailers arrive, and their announcement', async () => {
    const { port } = await openScene((req, res) => {
      res.writeHead(200, { trailer: 'X-Sum', 'x-te': req.headers.te ?? 'none' })
      res.write('body')
      res.addTrailers([
        ['X-Sum', 'abc'],
        ['X-More', '1'],
        ['Set-Cookie', 'a=1'],
      ])
      res.end()
    })
    const client = await dial(port)
    client.send(
      'GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nTE: trailers, deflate;q=0.5\r\nConnection: close, TE\r\n\r\n',
    )
    const answer = await client.rest()
    expect(answer).toContain('Trailer: X-Sum\r\n')
    expect(answer).toContain('x-te: trailers\r\n')
    expect(answer).toMatch(/4\r\nbody\r\n0\r\nX-Sum: abc\r\nX-More: 1\r\n\r\n$/)
  })

  test('an announcement of trailers that cannot come is left out', async () => {
    const worker = rawWorker(async (connection) => {
      await connection.head()
      connection.send('HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nContent-Length: 2\r\n\r\nok')
    })
    const { port } = await openScene(worker)
    const response = await get(port, '/')
    expect(response.headers.get('trailer')).toBe(null)
    expect(await response.text()).toBe('ok')
  })

  test('early hints are passed on', async () => {
    const { port } = await openScene((_req, res) => {
      res.writeEarlyHints({ link: '</a.css>; rel=preload', 'x-hint': '1' })
      res.end('done')
    })
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: close\r\n\r\n')
    const hints = await client.head()
    expect(hints).toMatch(/^HTTP\/1\.1 103 Early Hints\r\nLink: <\/a\.css>; rel=preload\r\n/)
    expect(await client.rest()).toMatch(/^HTTP\/1\.1 200 OK/)
  })

  test('a Location that names the worker becomes one that the client can follow', async () => {
    const { port } = await openScene((req, res) => {
      res
        .writeHead(302, {
          location: req.url === '/other' ? 'http://example.org/x' : `http://${req.headers.host}/next?a`,
        })
        .end()
    })
    expect((await get(port, '/')).headers.get('location')).toBe('/next?a')
    expect((await get(port, '/other')).headers.get('location')).toBe('http://example.org/x')
  })

  test('an HTTP/1.0 client gets a close-delimited body of a chunked response', async () => {
    const { port } = await openScene((_req, res) => {
      res.write('one ')
      res.end('two')
    })
    const client = await dial(port)
    client.send('GET / HTTP/1.0\r\nX-Session-Id: red\r\n\r\n')
    const [head, body] = (await client.rest()).split('\r\n\r\n')
    expect(fieldsOf(head ?? '')).not.toHaveProperty('transfer-encoding')
    expect(body).toBe('one two')
  })

  test('an unasked transfer coding is a failure of the worker', async () => {
    const worker = rawWorker(async (connection) => {
      await connection.head()
      connection.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n')
    })
    const { port } = await openScene(worker)
    expect((await get(port, '/')).status).toBe(502)
  })

  // Behind a tab llhttp does not see the coding, and leaves the chunks in the body.
  test('white space behind a value is none of it', async () => {
    const worker = rawWorker(async (connection) => {
      const coding = (await connection.head()).startsWith('GET /tab ') ? 'chunked\t' : 'chunked  '
      connection.send(
        `HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: ${coding}\r\nX-A: b \t \r\nX-B: \t\r\n\r\n3\r\nabc\r\n0\r\n\r\n`,
      )
    })
    const { port, failures } = await openScene(worker)
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\nConnection: close\r\n\r\n')
    const answer = await client.rest()
    expect(answer).toMatch(/\r\nX-A: b\r\nX-B: \r\n/)
    expect(answer).toMatch(/\r\n\r\n3\r\nabc\r\n0\r\n\r\n$/)
    expect((await get(port, '/tab')).status).toBe(502)
    expect(failures.at(-1)?.cause).toMatchObject({ message: expect.stringContaining('transfer coding') as string })
  })
})

describe('streaming', () => {
  test('an event stream is flushed head first, then event by event', async () => {
    const response = signal<ServerResponse>()
    const { port } = await openScene((_req, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' })
      res.flushHeaders()
      response.resolve(res)
    })
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
    expect(await client.head()).toContain('text/event-stream')
    const res = await response.promise
    for (let i = 0; i < 3; i++) {
      res.write(`data: ${i}\n\n`)
      expect(await client.take('\n\n')).toContain(`data: ${i}`)
    }
    res.end()
    await client.take('0\r\n\r\n')
  })

  test('a request and its response can stream at the same time', async () => {
    const { port } = await openScene((req, res) => void req.pipe(res))
    const req = request({ port, method: 'POST', headers: { 'x-session-id': 'red' } })
    const answered = new Promise<NodeJS.ReadableStream>((resolve) => {
      req.on('response', resolve)
    })
    req.write('a')
    const res = await answered
    for (const text of ['a', 'b', 'c']) {
      const [chunk] = (await new Promise<Buffer[]>((resolve) => {
        res.once('data', (data: Buffer) => resolve([data]))
      })) as [Buffer]
      expect(chunk.toString()).toBe(text)
      if (text === 'c') req.end()
      else req.write(text === 'a' ? 'b' : 'c')
    }
    await new Promise((resolve) => {
      res.once('end', resolve)
      res.resume()
    })
  })

  test('a client that does not read holds the worker back', async () => {
    const size = 64 * 1024 * 1024
    const begun = signal<Pour>()
    const { port, pool } = await openScene(async (_req, res) => {
      const pour = new Pour(res, size)
      begun.resolve(pour)
      await pour.finished
      res.end()
    })
    const req = request({ port, headers: { 'x-session-id': 'red' } }).end()
    const res = await new Promise<NodeJS.ReadableStream>((resolve) => {
      req.on('response', resolve)
    })
    const pour = await begun.promise
    // What the sockets on the way hold, and nothing near the whole.
    expect(await pour.blocked(port)).toBeLessThan(24 * 1024 * 1024)
    let read = 0
    for await (const chunk of res) read += (chunk as Buffer).length
    expect(read).toBe(size)
    expect(await pool.idle()).toBe(0)
  })

  test('a worker that does not read holds the client back', async () => {
    const size = 64 * 1024 * 1024
    const [begun, resume] = [signal(), signal()]
    const { port } = await openScene(async (req, res) => {
      begun.resolve()
      await resume.promise
      let read = 0
      for await (const chunk of req) read += (chunk as Buffer).length
      res.end(String(read))
    })
    const req = request({ port, method: 'POST', headers: { 'x-session-id': 'red', 'content-length': size } })
    const answered = new Promise<NodeJS.ReadableStream>((resolve) => {
      req.on('response', resolve)
    })
    const pour = new Pour(req, size)
    await begun.promise
    expect(await pour.blocked(port)).toBeLessThan(24 * 1024 * 1024)
    resume.resolve()
    await pour.finished
    req.end()
    let text = ''
    for await (const part of await answered) text += part
    expect(text).toBe(String(size))
  })

  test('an upload of 1 GiB arrives whole at flat memory', async () => {
    const size = 1024 * 1024 * 1024
    const { port } = await openScene(async (req, res) => {
      let read = 0
      for await (const part of req) read += (part as Buffer).length
      res.end(String(read))
    })
    const before = process.memoryUsage.rss()
    let peak = 0
    const req = request({ port, method: 'PUT', headers: { 'x-session-id': 'red', 'content-length': size } })
    const answered = new Promise<NodeJS.ReadableStream>((resolve) => {
      req.on('response', resolve)
    })
    const chunk = Buffer.alloc(256 * 1024, 'x')
    for (let written = 0; written < size; written += chunk.length) {
      if (!req.write(chunk)) await new Promise((resolve) => req.once('drain', resolve))
      peak = Math.max(peak, process.memoryUsage.rss())
    }
    req.end()
    let text = ''
    for await (const part of await answered) text += part
    expect(text).toBe(String(size))
    expect(peak - before).toBeLessThan(200 * 1024 * 1024)
  })

  test('a small binary body arrives bit for bit', async () => {
    const data = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
    const { port } = await openScene((_req, res) => res.writeHead(200, { 'content-length': 256 }).end(data))
    expect(Buffer.from(await (await get(port, '/')).arrayBuffer())).toEqual(data)
  })

  test('a download arrives bit for bit', async () => {
    const data = Buffer.alloc(8 * 1024 * 1024)
    for (let i = 0; i < data.length; i += 4) data.writeUInt32LE((i * 2654435761) >>> 0, i)
    const { port } = await openScene((_req, res) => res.end(data))
    const received = Buffer.from(await (await get(port, '/')).arrayBuffer())
    const sum = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
    expect(sum(received)).toBe(sum(data))
  })
})
