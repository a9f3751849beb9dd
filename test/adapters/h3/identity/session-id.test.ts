import { HTTPError } from 'h3'
import { describe, expect, test } from 'vitest'
import { fromCookie, fromHeader, fromPath, fromQuery } from 'corral/h3'
import type { GatewayOptions } from 'corral/h3'
import { dial, openScene } from '../_scene.ts'

/** What the worker saw, as `id target`, or the code that the gateway answered with. */
async function outcome(options: Partial<GatewayOptions>, target: string, ...lines: string[]): Promise<string> {
  const { port, pool } = await openScene((req, res) => res.end(`<${req.url}>`), options)
  const client = await dial(port)
  client.send([`GET ${target} HTTP/1.1`, 'Host: a', ...lines, 'Connection: close', '', ''].join('\r\n'))
  const answer = await client.rest()
  const code = /"code":"(\w+)"/.exec(answer)?.[1]
  if (code !== undefined) {
    expect(pool.acquired).toEqual([])
    return `${/ (\d+) /.exec(answer)?.[1]} ${code}`
  }
  return `${pool.acquired[0]} ${/<(.*)>/.exec(answer)?.[1]}`
}

const missing = '400 SESSION_ID_MISSING'
const invalid = '400 SESSION_ID_INVALID'

describe('fromHeader', () => {
  const sessionId = fromHeader('X-Session-ID')

  test.each<[string, string[]]>([
    ['red /', ['x-session-id: red']],
    ['red /', ['X-SESSION-ID:   red  ']],
    ['red /', ['X-Session-Id: red', 'X-Session-Id: red']],
    [invalid, ['X-Session-Id: red', 'X-Session-Id: blue']],
    [invalid, ['X-Session-Id:']],
    [invalid, ['X-Session-Id: red, blue']],
    [missing, []],
    [missing, ['X-Session-Idx: red']],
  ])('%s of %j', async (expected, lines) => {
    expect(await outcome({ sessionId }, '/', ...lines)).toBe(expected)
  })
})

describe('fromCookie', () => {
  const sessionId = fromCookie('sid')

  test.each<[string, string[]]>([
    ['red /', ['Cookie: a=1; sid=red; b=2']],
    ['red /', ['Cookie: sid="red"']],
    ['red /', ['Cookie: a=1;\t sid \t=\t red \t']],
    ['a=b /', ['Cookie: sid=a=b']],
    ['red /', ['Cookie: sid=red', 'Cookie: sid=red']],
    [invalid, ['Cookie: sid=red; sid=blue']],
    [invalid, ['Cookie: sid=']],
    [invalid, ['Cookie: sid=%41']],
    [missing, ['Cookie: xsid=red; sidx=blue; sid']],
    [missing, ['Cookie: \u00a0sid=red; sid\u00a0=blue']],
    [invalid, ['Cookie: sid=\u00a0red']],
    [missing, []],
  ])('%s of %j', async (expected, lines) => {
    expect(await outcome({ sessionId }, '/', ...lines)).toBe(expected)
  })
})

describe('fromQuery', () => {
  test.each([
    ['red /?sid=red', '/?sid=red'],
    ['red /a?b=1&sid=red&c', '/a?b=1&sid=red&c'],
    ['a+b /?sid=a%2Bb', '/?sid=a%2Bb'],
    ['a+b /?sid=a+b', '/?sid=a+b'],
    ['red /?s%69d=red', '/?s%69d=red'],
    ['red /?sid=red&sid=red', '/?sid=red&sid=red'],
    [invalid, '/?sid=red&sid=blue'],
    [invalid, '/?sid=%zz'],
    [invalid, '/?sid=%ff'],
    [invalid, '/?sid'],
    [missing, '/?xsid=red'],
    [missing, '/sid=red'],
  ])('%s of %s', async (expected, target) => {
    expect(await outcome({ sessionId: fromQuery('sid') }, target)).toBe(expected)
  })
})

describe('fromPath', () => {
  test.each([
    ['red /', '/s/red'],
    ['red /', '/s/red/'],
    ['red /a%2Fb/../c?d=/e', '/s/red/a%2Fb/../c?d=/e'],
    ['red /?a', '/s/red?a'],
    ['red //a', '/s/red//a'],
    ['r@d /x', '/s/r%40d/x'],
    [invalid, '/s/a%2Fb/x'],
    [invalid, '/s/%zz/x'],
    [invalid, '/s//x'],
    [invalid, '/s/r%00d/x'],
    [missing, '/s/'],
    [missing, '/s'],
    [missing, '/x/s/red'],
    [missing, '/S/red'],
  ])('%s of %s', async (expected, target) => {
    expect(await outcome({ sessionId: fromPath() }, target)).toBe(expected)
  })

  test('takes any prefix, or none', async () => {
    expect(await outcome({ sessionId: fromPath('/a/b/') }, '/a/b/red/c')).toBe('red /c')
    expect(await outcome({ sessionId: fromPath('') }, '/red/c')).toBe('red /c')
    for (const prefix of ['s', '/s/../t', '/./s', '/..']) expect(() => fromPath(prefix)).toThrow(/fromPath\(prefix\)/)
    for (const prefix of ['', '/', '/.s', '/..s/', '/a.b']) expect(() => fromPath(prefix)).not.toThrow()
  })
})

describe('several sources', () => {
  const sessionId = [fromHeader('x-session-id'), fromPath()]

  test('the first that names a session decides, and the others do not count', async () => {
    expect(await outcome({ sessionId }, '/s/blue/x', 'X-Session-Id: red')).toBe('red /s/blue/x')
    expect(await outcome({ sessionId }, '/s/blue/x')).toBe('blue /x')
    expect(await outcome({ sessionId }, '/s/blue/x', 'X-Session-Id: ?')).toBe(invalid)
    expect(await outcome({ sessionId }, '/x')).toBe(missing)
  })
})

describe('a function', () => {
  test('gives an id, or an id and a target', async () => {
    expect(await outcome({ sessionId: (req) => req.headers['x-id'] as string }, '/', 'X-Id: red')).toBe('red /')
    expect(await outcome({ sessionId: (_req, target) => ({ id: 'red', target: `/v1${target}` }) }, '/x?y')).toBe(
      'red /v1/x?y',
    )
  })

  test('may be asynchronous, and pass on to the next source', async () => {
    const sessionId = [async () => undefined, async () => 'red']
    expect(await outcome({ sessionId }, '/')).toBe('red /')
    expect(await outcome({ sessionId: async () => null }, '/')).toBe(missing)
    expect(await outcome({ sessionId: async () => 'no way' }, '/')).toBe(invalid)
  })

  test('decides the status with an error that has one, such as 401', async () => {
    const refuse = () => {
      throw new HTTPError({ status: 401, message: 'secret' })
    }
    expect(await outcome({ sessionId: refuse }, '/')).toBe('401 REQUEST_REFUSED')
    expect(await outcome({ sessionId: async () => refuse() }, '/')).toBe('401 REQUEST_REFUSED')
  })

  test('that fails is answered with 500', async () => {
    const fail = () => {
      throw new Error('secret')
    }
    expect(await outcome({ sessionId: fail }, '/')).toBe('500 INTERNAL_ERROR')
    expect(await outcome({ sessionId: async () => fail() }, '/')).toBe('500 INTERNAL_ERROR')
  })
})

describe('idPattern', () => {
  test.each<[string, string]>([
    ['/s/../x', invalid],
    ['/s/./x', invalid],
    ['/s/%2e%2E/x', invalid],
    ['/s/.../x', '... /x'],
    ['/s/.a/x', '.a /x'],
  ])('by default has no names that a path cannot hold: of %s the outcome is %s', async (target, expected) => {
    expect(await outcome({ sessionId: fromPath() }, target)).toBe(expected)
  })

  test('is letters, digits and . _ ~ : @ + = - by default, at most 128', async () => {
    const sessionId = fromHeader('x-id')
    expect(await outcome({ sessionId }, '/', `X-Id: ${'a'.repeat(128)}`)).toBe(`${'a'.repeat(128)} /`)
    expect(await outcome({ sessionId }, '/', `X-Id: ${'a'.repeat(129)}`)).toBe(invalid)
    expect(await outcome({ sessionId }, '/', 'X-Id: a/b')).toBe(invalid)
    expect(await outcome({ sessionId }, '/', 'X-Id: \xe9')).toBe(invalid)
  })

  test('can be replaced, and a global one keeps no state', async () => {
    const { port, pool } = await openScene((_req, res) => res.end(), { idPattern: /^\d+$/g })
    const client = await dial(port)
    for (let i = 0; i < 3; i++) {
      client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: 42\r\n\r\n')
      expect(await client.head()).toMatch(/^HTTP\/1\.1 200 /)
    }
    client.send('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
    expect(await client.head()).toMatch(/^HTTP\/1\.1 400 /)
    expect(pool.acquired).toEqual(['42', '42', '42'])
  })
})
