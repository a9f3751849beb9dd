import { execFileSync } from 'node:child_process'
import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { request } from 'node:https'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { connect as connectTls } from 'node:tls'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { createGateway, fromCookie } from 'corral/h3'
import type { GatewayFailure, ListenOptions } from 'corral/h3'
import { FakePool } from './_pool.ts'
import type { Handler } from './_scene.ts'
import { RawConnection, httpWorker, listenOn, signal } from './_scene.ts'

let directory: string
const path = (name: string) => join(directory, name)

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'corral-tls-'))
  const subject = ['-subj', '/CN=gateway.test', '-days', '2', '-addext', 'subjectAltName=DNS:gateway.test']
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      ...subject,
      '-keyout',
      path('key.pem'),
      '-out',
      path('cert.pem'),
    ],
    { stdio: 'pipe' },
  )
})

afterAll(() => rmSync(directory, { recursive: true }))

const secret = 'a passphrase for a test'

const encryptedKey = () =>
  createPrivateKey(readFileSync(path('key.pem')))
    .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: secret })
    .toString()

const rsaKey = () =>
  generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()

const withBrokenChain = () => `${readFileSync(path('cert.pem'), 'utf8')}-----BEGIN CERTIFICATE-----\nAAAA\n`

async function openTls(worker: Handler | ReturnType<typeof createServer>, options: ListenOptions = {}) {
  const port = await listenOn(typeof worker === 'function' ? httpWorker(worker) : worker)
  const pool = new FakePool({ host: '127.0.0.1', port })
  const failures: GatewayFailure[] = []
  const gateway = createGateway(pool.asPool, {
    sessionId: fromCookie('sid'),
    issue: true,
    onError: (failure) => failures.push(failure),
  })
  const tls = { cert: path('cert.pem'), key: path('key.pem') }
  const listener = await gateway.listen({ port: 0, tls, ...options })
  onTestFinished(async () => {
    await listener.close({ grace: 0 })
    await pool.until(() => pool.open === 0)
  })
  return { pool, listener, port: listener.port, failures }
}

/** A client that speaks HTTP by hand, over TLS. */
async function dialTls(port: number, ca = readFileSync(path('cert.pem'))): Promise<RawConnection> {
  const socket = connectTls({ port, host: '127.0.0.1', ca, servername: 'gateway.test' })
  onTestFinished(() => {
    socket.destroy()
  })
  await once(socket, 'secureConnect')
  return new RawConnection(socket)
}

describe('with tls, the gateway', () => {
  test('serves HTTPS with a certificate of one’s own, and tells the worker', async () => {
    const { port, listener } = await openTls((req, res) => res.end(String(req.headers['x-forwarded-proto'])))
    expect(listener.url).toBe(`https://127.0.0.1:${port}`)
    const client = await dialTls(port)
    client.send('GET / HTTP/1.1\r\nHost: gateway.test\r\nCookie: sid=red\r\nConnection: close\r\n\r\n')
    expect(await client.rest()).toMatch(/\r\n\r\nhttps$/)
  })

  test('resets the connection of a client of HTTP/1.0 when it cuts its response, as a close would look complete', async () => {
    const arrived = signal<IncomingMessage>()
    const { port, pool } = await openTls((req, res) => {
      res.write('half')
      arrived.resolve(req)
    })
    const client = await dialTls(port)
    const error = new Promise<NodeJS.ErrnoException>((resolve) => client.socket.once('error', resolve))
    client.send('GET / HTTP/1.0\r\nHost: gateway.test\r\nCookie: sid=red\r\n\r\n')
    await client.take('half')
    ;(await arrived.promise).socket.destroy()
    expect((await error).code).toBe('ECONNRESET')
    expect(await pool.idle()).toBe(0)
  })

  test('issues cookies that are Secure', async () => {
    const { port } = await openTls((_req, res) => res.end('ok'))
    const client = await dialTls(port)
    client.send('GET / HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n')
    expect(await client.head()).toMatch(/\r\nSet-Cookie: sid=[\w-]{22}; Path=\/; HttpOnly; SameSite=Lax; Secure\r\n/)
  })

  test('takes the certificate as text, too', async () => {
    const tls = { cert: readFileSync(path('cert.pem'), 'utf8'), key: readFileSync(path('key.pem'), 'utf8') }
    const { port } = await openTls((_req, res) => res.end('ok'), { tls })
    await dialTls(port)
  })

  test('makes a certificate of its own for this machine', async () => {
    const { port } = await openTls((_req, res) => res.end('ok'), { tls: true })
    const answer = request({ port, host: '127.0.0.1', rejectUnauthorized: false, headers: { cookie: 'sid=red' } }).end()
    const [response] = (await once(answer, 'response')) as [
      { statusCode: number; socket: TLSSocket; resume: () => void },
    ]
    const { subject, subjectaltname, valid_to } = response.socket.getPeerCertificate()
    response.resume()
    expect(response.statusCode).toBe(200)
    expect({ ...subject }).toEqual({ CN: 'localhost', O: 'Corral', OU: 'self-signed' })
    expect(subjectaltname).toBe('DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1')
    expect(Date.parse(valid_to) - Date.now()).toBeGreaterThan(300 * 86_400_000)
    response.socket.destroy()
  })

  test.each(['::ffff:127.0.0.1', '127.0.0.2'])('makes one for the address %s that it listens on', async (hostname) => {
    const { port } = await openTls((_req, res) => res.end('ok'), { tls: true, hostname })
    const socket = connectTls({ port, host: hostname, rejectUnauthorized: false })
    await once(socket, 'secureConnect')
    // Not by `checkServerIdentity`, which compares the notation of addresses in some versions of Node.
    expect(socket.getPeerX509Certificate()?.checkIP(hostname)).toBe(hostname)
    socket.destroy()
  })

  test('tunnels WebSockets, and says goodbye to them', async () => {
    const http = createServer()
    new WebSocketServer({ server: http }).on('connection', (socket) => {
      socket.on('message', (message) => socket.send(message))
    })
    const { port, listener } = await openTls(http)
    const socket = new WebSocket(`wss://127.0.0.1:${port}/`, {
      rejectUnauthorized: false,
      headers: { cookie: 'sid=red' },
    })
    await once(socket, 'open')
    socket.send('hello')
    expect(String((await once(socket, 'message'))[0])).toBe('hello')
    const closed = once(socket, 'close')
    await listener.close({ grace: 0 })
    expect((await closed)[0]).toBe(1001)
  })

  test('ignores other upgrades, as without TLS', async () => {
    const { port } = await openTls((_req, res) => res.end('ok'))
    const client = await dialTls(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nCookie: sid=red\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n')
    expect(await client.rest()).toMatch(/^HTTP\/1\.1 200 /)
  })

  test('waits for a response that is under way when it closes, and not for an idle connection', async () => {
    let answer = () => {}
    const { port, listener, pool } = await openTls((_req, res) => {
      answer = () => res.end('done')
    })
    const idle = await dialTls(port)
    const busy = await dialTls(port)
    busy.send('GET / HTTP/1.1\r\nHost: a\r\nCookie: sid=red\r\n\r\n')
    await pool.until(() => pool.granted > 0)
    const closed = listener.close({ grace: 60_000 })
    await idle.rest()
    expect(busy.received).toBe('')
    await expect.poll(() => answer.toString()).toContain('done')
    answer()
    expect(await busy.rest()).toMatch(/done$/)
    await closed
  })

  test('cuts a client that does not get through its handshake', async () => {
    const { port, failures } = await openTls(() => {}, { headersTimeout: 100 })
    const socket = connect(port, '127.0.0.1')
    onTestFinished(() => {
      socket.destroy()
    })
    await once(socket, 'close')
    expect(failures).toMatchObject([{ code: 'CLIENT_TIMEOUT', method: undefined }])
  })

  test('tells of a client that speaks plain HTTP, and of none that only looks whether the port is open', async () => {
    const { port, failures } = await openTls(() => {})
    for (const text of ['', 'GET / HTTP/1.1\r\nHost: a\r\n\r\n']) {
      const socket = connect(port, '127.0.0.1')
      socket.on('error', () => {}).end(text)
      socket.resume()
      await once(socket, 'close')
    }
    expect(failures).toMatchObject([{ code: 'REQUEST_MALFORMED', method: undefined }])
  })

  test('does not wait for a handshake when it closes', async () => {
    const { port, listener } = await openTls(() => {})
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => {})
    const closed = once(socket, 'close')
    await once(listener.server, 'connection')
    await listener.close({ grace: 60_000 })
    await closed
  })

  test('takes what stands around the certificate, and a key that is encrypted, with its passphrase', async () => {
    const cert = `Made for a test\n${readFileSync(path('cert.pem'), 'utf8')}`
    const { port } = await openTls((_req, res) => res.end('ok'), {
      tls: { cert, key: encryptedKey(), passphrase: secret },
    })
    await dialTls(port)
  })

  test.each<[string, string, () => object]>([
    ['tls.cert', 'ENOENT', () => ({ cert: path('none.pem'), key: path('key.pem') })],
    ['tls.key', 'ENOENT', () => ({ cert: path('cert.pem'), key: path('none.pem') })],
    ['tls.cert', 'EISDIR', () => ({ cert: directory, key: path('key.pem') })],
    ['tls.key', 'got something else', () => ({ cert: path('cert.pem'), key: path('cert.pem') })],
    ['tls.cert', 'got something else', () => ({ cert: path('key.pem'), key: path('key.pem') })],
    ['tls.key', 'the path of a file, got undefined', () => ({ cert: path('cert.pem') })],
    ['tls.cert', 'the path of a file, got ""', () => ({ cert: '', key: path('key.pem') })],
    ['tls.key', 'the path of a file, got ""', () => ({ cert: path('cert.pem'), key: '' })],
    ['tls.key', 'the path of a file, got number', () => ({ cert: path('cert.pem'), key: 1 })],
    ['tls.passphrase', 'text, got ""', () => ({ cert: path('cert.pem'), key: path('key.pem'), passphrase: '' })],
    ['tls.cert', 'got nothing', () => ({ cert: '/dev/null', key: path('key.pem') })],
    ['tls.key', 'got nothing', () => ({ cert: path('cert.pem'), key: '/dev/null' })],
    ['tls.key', 'belongs to the certificate', () => ({ cert: path('cert.pem'), key: rsaKey() })],
    ['tls.key', 'not encrypted', () => ({ cert: path('cert.pem'), key: encryptedKey() })],
    ['tls.passphrase', 'encrypted with', () => ({ cert: path('cert.pem'), key: encryptedKey(), passphrase: 'no' })],
    ['tls.cert', 'that TLS takes', () => ({ cert: withBrokenChain(), key: path('key.pem') })],
  ])('refuses to listen with a %s that is of no use (%s), without telling secrets', async (option, message, tls) => {
    const gateway = createGateway(new FakePool({ host: '127.0.0.1', port: 1 }).asPool, { sessionId: fromCookie('sid') })
    const error: unknown = await gateway.listen({ port: 0, tls: tls() as never }).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'INVALID_OPTION', option })
    expect(String(error)).toContain(message)
    expect(String(error)).not.toMatch(/PRIVATE|Made for|ey9/)
  })
})
