import { describe, expect, test } from 'vitest'
import { fromPath } from 'corral/h3'
import type { GatewayOptions } from 'corral/h3'
import type { Handler } from './_scene.ts'
import { dial, fieldsOf, get, openScene } from './_scene.ts'

const echo: Handler = (req, res) => res.end(JSON.stringify(req.rawHeaders), 'latin1')

/** The header fields that the worker got, names in lower case. */
async function seen(lines: readonly string[], options: Partial<GatewayOptions> = {}) {
  const scene = await openScene(echo, options)
  const client = await dial(scene.port)
  client.send(['GET /s/red/x HTTP/1.1', 'X-Session-Id: red', ...lines, 'Connection: close', '', ''].join('\r\n'))
  const body = (await client.rest()).split('\r\n\r\n')[1] ?? ''
  const raw = JSON.parse(body.slice(body.indexOf('['), body.lastIndexOf(']') + 1)) as string[]
  const fields: Record<string, string[]> = {}
  for (let i = 0; i < raw.length; i += 2) (fields[(raw[i] as string).toLowerCase()] ??= []).push(raw[i + 1] as string)
  return { fields, raw, scene }
}

describe('request headers', () => {
  test('end-to-end fields keep their names, order, duplicates and bytes', async () => {
    const { raw } = await seen([
      'Host: a',
      'X-CasE: 1',
      'x-dup: 1',
      'X-Dup: 2',
      'X-Latin: \xe9',
      'Cookie: a=1',
      'Cookie: b=2',
    ])
    expect(raw.join('|')).toContain('X-Session-Id|red|X-CasE|1|x-dup|1|X-Dup|2|X-Latin|\xe9|Cookie|a=1|Cookie|b=2|')
  })

  test('fields of the connection, and those that Connection lists, are left out', async () => {
    const { fields } = await seen([
      'Host: a',
      'Connection: X-Hop, x-hop-2 ,Keep-Alive',
      'X-Hop: 1',
      'X-Hop-2: 1',
      'Keep-Alive: timeout=5',
      'Proxy-Connection: keep-alive',
      'Proxy-Authorization: Basic secret',
      'TE: gzip',
      'Trailer: X-T',
      'Upgrade: h2c',
      'HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA',
    ])
    for (const name of [
      'x-hop',
      'x-hop-2',
      'keep-alive',
      'proxy-connection',
      'proxy-authorization',
      'te',
      'trailer',
      'upgrade',
      'http2-settings',
    ]) {
      expect(fields).not.toHaveProperty(name)
    }
    expect(fields.connection).toEqual(['keep-alive'])
  })

  test('Connection cannot take away a field that gives the message its meaning', async () => {
    const names = ['cookie', 'if-match', 'if-none-match', 'if-range', 'range', 'content-range', 'sec-websocket-key']
    const { fields } = await seen([
      'Host: a',
      `Connection: host, x-forwarded-for, ${names.join(', ')}`,
      ...names.map((name) => `${name}: a=1`),
    ])
    for (const name of names) expect(fields[name]).toEqual(['a=1'])
    expect(fields['x-forwarded-for']).toEqual(['127.0.0.1'])
  })

  test('X-Forwarded-* and Forwarded are set, and what a client sends of them is dropped', async () => {
    const { fields, scene } = await seen([
      'Host: example.org:81',
      'X-Forwarded-For: 6.6.6.6',
      'X-Forwarded-Proto: https',
      'X-Forwarded-Host: evil',
      'X-Forwarded-User: root',
      'X-Real-IP: 6.6.6.6',
      'Forwarded: for=6.6.6.6',
    ])
    expect(fields).toMatchObject({
      'x-forwarded-for': ['127.0.0.1'],
      'x-forwarded-proto': ['http'],
      'x-forwarded-host': ['example.org:81'],
      'x-forwarded-port': [String(scene.port)],
      forwarded: ['for=127.0.0.1;host="example.org:81";proto=http'],
    })
    expect(fields).not.toHaveProperty('x-forwarded-user')
    expect(fields).not.toHaveProperty('x-real-ip')
  })

  test('trustForwarded adds to what a proxy in front has set', async () => {
    const { fields } = await seen(
      [
        'Host: a',
        'X-Forwarded-For: 1.1.1.1',
        'X-Forwarded-For: 2.2.2.2',
        'X-Forwarded-Proto: https',
        'X-Forwarded-Host: example.org',
        'X-Forwarded-Port: 443',
        'X-Forwarded-Prefix: /outer',
        'X-Forwarded-User: ann',
        'X-Real-IP: 1.1.1.1',
        'Forwarded: for=1.1.1.1;proto=https',
      ],
      { trustForwarded: true, sessionId: fromPath() },
    )
    expect(fields).toMatchObject({
      'x-forwarded-for': ['1.1.1.1, 2.2.2.2, 127.0.0.1'],
      'x-forwarded-proto': ['https'],
      'x-forwarded-host': ['example.org'],
      'x-forwarded-port': ['443'],
      'x-forwarded-prefix': ['/outer/s/red'],
      'x-forwarded-user': ['ann'],
      'x-real-ip': ['1.1.1.1'],
      forwarded: ['for=1.1.1.1;proto=https, for=127.0.0.1;host=a;proto=http'],
    })
  })

  test.each([
    [1, 'http', 'inner', '80'],
    [2, 'https', 'outer', '443'],
  ])(
    'of %i trusted proxies, it is the outermost that tells of the client',
    async (trustForwarded, proto, host, port) => {
      const { fields } = await seen(
        [
          'Host: a',
          'X-Forwarded-Proto: ftp',
          'X-Forwarded-Proto: https, http',
          'X-Forwarded-Host: evil, outer,inner',
          'X-Forwarded-Port: 1, 443, 80',
        ],
        { trustForwarded },
      )
      expect(fields).toMatchObject({
        'x-forwarded-proto': [proto],
        'x-forwarded-host': [host],
        'x-forwarded-port': [port],
      })
    },
  )

  test.each([
    [1, '/inner/s/red'],
    [2, '/outer/inner/s/red'],
    [4, '/evil/outer/inner/s/red'],
  ])(
    'of %i trusted proxies, all tell of what was cut off the path, and nobody in front of them',
    async (proxies, prefix) => {
      const { fields } = await seen(['Host: a', 'X-Forwarded-Prefix: /evil', 'X-Forwarded-Prefix: /outer, /inner'], {
        trustForwarded: proxies,
        sessionId: fromPath(),
      })
      expect(fields['x-forwarded-prefix']).toEqual([prefix])
    },
  )

  test('beside what a proxy says of host and scheme there is no port, unless it says one', async () => {
    const lines = ['Host: a', 'X-Forwarded-Proto: https', 'X-Forwarded-Host: example.org']
    const { fields } = await seen(lines, { trustForwarded: true })
    expect(fields).toMatchObject({ 'x-forwarded-proto': ['https'], 'x-forwarded-host': ['example.org'] })
    expect(fields).not.toHaveProperty('x-forwarded-port')
  })

  test('Host is the worker’s, or the client’s with host: keep', async () => {
    const rewritten = await seen(['Host: example.org'])
    expect(rewritten.fields.host?.[0]).toMatch(/^127\.0\.0\.1:\d+$/)
    const kept = await seen(['Host: example.org'], { host: 'keep' })
    expect(kept.fields.host).toEqual(['example.org'])
  })

  test('the path that was cut off is told in X-Forwarded-Prefix', async () => {
    const { fields } = await seen(['Host: a'], { sessionId: fromPath() })
    expect(fields['x-forwarded-prefix']).toEqual(['/s/red'])
  })

  test('Via is only sent with a name', async () => {
    expect((await seen(['Host: a'])).fields).not.toHaveProperty('via')
    expect((await seen(['Host: a', 'Via: 1.0 front'], { via: 'corral' })).fields.via).toEqual([
      '1.0 front',
      '1.1 corral',
    ])
  })
})

describe('response headers', () => {
  test('fields of the connection, and those that Connection lists, are left out', async () => {
    const { port } = await openScene((_req, res) => {
      res.writeHead(200, [
        'Connection',
        'X-Hop, close',
        'X-Hop',
        '1',
        'Proxy-Authenticate',
        'Basic',
        'Upgrade',
        'h2c',
        'Keep-Alive',
        'timeout=1',
        'X-End',
        '1',
        'Content-Length',
        '2',
      ])
      res.end('ok')
    })
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
    const fields = fieldsOf(await client.head())
    expect(fields).toMatchObject({ 'x-end': ['1'], connection: ['keep-alive'], 'keep-alive': ['timeout=5'] })
    for (const name of ['x-hop', 'proxy-authenticate', 'upgrade']) expect(fields).not.toHaveProperty(name)
  })

  test('a Location on the worker’s own address is put under the prefix', async () => {
    const { port } = await openScene(
      (req, res) => res.writeHead(302, { location: `http://${req.headers.host}/a` }).end(),
      {
        sessionId: fromPath(),
      },
    )
    expect((await get(port, '/s/red/')).headers.get('location')).toBe('/s/red/a')
  })

  test.each([
    ['http://HOST/a?b#c', '/a?b#c'],
    ['HTTP://HOST', '/'],
    ['//HOST/a', '/a'],
    ['http://HOST?b', '/?b'],
    ['http://HOST//evil.test/a', '/.//evil.test/a'],
    ['http://HOST/\\evil.test', '/./\\evil.test'],
    ['http://HOST/\t/evil.test', '/./\t/evil.test'],
    ['http://HOST.evil.test/a', 'http://HOST.evil.test/a'],
    ['http://HOST@evil.test/a', 'http://HOST@evil.test/a'],
    ['https://HOST/a', 'https://HOST/a'],
    ['//evil.test/a', '//evil.test/a'],
    ['a/b', 'a/b'],
  ])('of the Location %j the client gets %j: never another host than the worker named', async (said, seen) => {
    const hosts: string[] = []
    const { port } = await openScene((req, res) => {
      hosts.push(String(req.headers.host))
      res.writeHead(302, { location: said.replace('HOST', String(req.headers.host)) }).end()
    })
    const client = await dial(port)
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
    const [location = ''] = fieldsOf(await client.head())['location'] as string[]
    expect(location.replace(String(hosts[0]), 'HOST')).toBe(seen)
    if (seen.startsWith('/') && !said.startsWith('//evil')) {
      expect(new URL(location, 'http://gateway.test').host).toBe('gateway.test')
    }
  })
})
