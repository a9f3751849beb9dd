import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseRunOptions } from '../../../src/adapters/cli/options.ts'
import { createIdSigner } from '../../../src/adapters/h3/index.ts'
import { leavesNoProcess } from '../../_processes.ts'
import { corral, run, urlOf, usesCli } from './_cli.ts'

usesCli()
leavesNoProcess()

let directory: string
const file = (name: string, content: string | Buffer) => {
  const path = join(directory, name)
  writeFileSync(path, content)
  return path
}

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'corral-cli-'))
})

afterAll(() => rmSync(directory, { recursive: true }))

const parse = (args: string[], env: Record<string, string> = {}) =>
  parseRunOptions([...args, '--', 'node', 'server.js'], env).identity

describe('corral run', () => {
  test('reads keys from a file, one a line, without comments, or from the environment', () => {
    const path = file('keys', '# of November\nnew secret of enough bytes\n\n  old secret of enough bytes  \n')
    const keys = ['new secret of enough bytes', 'old secret of enough bytes']
    expect(parse(['--keys-file', path]).sign).toEqual({ keys, forged: 'refuse' })
    expect(parse([], { CORRAL_KEYS: keys.join(',') }).sign).toEqual({ keys, forged: 'refuse' })
    expect(parse(['--keys-file', path, '--issue', '--forged', 'issue']).sign).toEqual({ keys, forged: 'issue' })
    expect(parse([]).sign).toBeUndefined()
  })

  test('reads principals and their tokens from a file', () => {
    const path = file('tokens', '# principal token\nalice 0123456789abcdef\nbob\tfedcba9876543210\n')
    expect(parse(['--tokens-file', path]).authorize).toEqual({
      file: path,
      text: '# principal token\nalice 0123456789abcdef\nbob\tfedcba9876543210',
      tokens: new Map([
        ['0123456789abcdef', 'alice'],
        ['fedcba9876543210', 'bob'],
      ]),
    })
  })

  test.each([
    [['--keys-file', '/no/such'], '--keys-file expects a file that can be read'],
    [['--forged', 'issue'], '--forged issue has no effect without --keys-file'],
    [['--keys-file', () => file('good', 'a secret of enough bytes'), '--forged', 'issue'], 'without --issue'],
    [['--keys-file', () => file('short', 'short')], '--keys-file: expected secrets of at least 16 bytes'],
    [['--forged', 'maybe'], '--forged expects refuse or issue, got "maybe"'],
    [['--user-proxy', '::1'], '--user-proxy has no effect without --user-header'],
    [['--tls-cert', 'c.pem'], '--tls-cert and --tls-key go together'],
    [['--tls', '--tls-cert', 'c.pem', '--tls-key', 'k.pem'], 'give one of them'],
  ])('refuses %j', (args, message) => {
    expect(() => parse(args.map((arg) => (typeof arg === 'string' ? arg : arg())))).toThrow(message)
  })

  test('says where a secret that is of no use came from', async () => {
    expect(() => parse([], { CORRAL_KEYS: 'short' })).toThrow(/^CORRAL_KEYS: expected secrets of at least 16 bytes/)
    const token = corral(['run', '--port', '0', '--admin', '0', '--', 'node'], [], { CORRAL_ADMIN_TOKEN: 'short' })
    const { code, stdout, stderr } = await token.exit
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(/^corral: CORRAL_ADMIN_TOKEN: expected at least 16 letters/)
  })

  test('refuses secrets that are no text: what stands for one byte stands for all', () => {
    const bytes = Buffer.from('alice 0123456789abcdef\nren\xe9 fedcba9876543210\n', 'latin1')
    const path = file('latin1', bytes)
    const refusal = (flag: string) => `${flag} expects a file of text in UTF-8, which ${JSON.stringify(path)} is not`
    expect(() => parse(['--tokens-file', path])).toThrow(refusal('--tokens-file'))
    expect(() => parse(['--keys-file', path])).toThrow(refusal('--keys-file'))
    expect(() => parse([], { CORRAL_KEYS: bytes.toString() })).toThrow(/^CORRAL_KEYS: expected secrets of text/)
  })

  test.runIf(existsSync('/dev/zero'))('refuses a file of secrets that has no end', () => {
    const refusal = (flag: string) =>
      `${flag} expects a file that can be read: "/dev/zero" has more than 16777216 bytes`
    for (const flag of ['--tokens-file', '--keys-file']) expect(() => parse([flag, '/dev/zero'])).toThrow(refusal(flag))
  })

  test('refuses files that hold nothing of use, without printing what they hold', () => {
    expect(() => parse(['--keys-file', file('empty', '\n# nothing\n')])).toThrow('a key in a line, got none')
    for (const none of ['', ' , ']) expect(() => parse([], { CORRAL_KEYS: none })).toThrow('CORRAL_KEYS expects keys')
    const path = file('bad', 'alice secret-one-of-alice\nsecret-two\n')
    expect(() => parse(['--tokens-file', path])).toThrow('which entry 2 is not')
    expect(() => parse(['--tokens-file', path])).not.toThrow('secret-two')
    expect(() => parse(['--tokens-file', path, '--user-header', 'x'])).toThrow('give one of them')
    const principal = file('principal', `alice 0123456789abcdef\n# a comment\n${'b'.repeat(300)} fedcba9876543210\n`)
    expect(() => parse(['--tokens-file', principal])).toThrow(
      /^Entry 2 of --tokens-file: expected a principal of 1 to 256 characters, got one of 300$/,
    )
    const token = file('token', 'alice 0123456789abcdef\nalice 0123456789abcdef\nbob tök-0123456789abcdef\n')
    expect(() => parse(['--tokens-file', token])).toThrow(
      /^Entry 3 of --tokens-file: expected a token of letters, digits and -\._~\+\/, and = at the end, got something else$/,
    )
    const control = file('control', 'al\0ice 0123456789abcdef\n')
    expect(() => parse(['--tokens-file', control])).toThrow('which entry 1 is not')
    const shared = file('shared', 'alice 0123456789abcdef\nalice 0123456789abcdef\nbob 0123456789abcdef\n')
    expect(() => parse(['--tokens-file', shared])).toThrow('which that of entry 3 is not')
  })

  test.each([
    [['--issue', '--session', 'path', '--session', 'query:a'], '--issue needs a --session that can carry an id'],
    [['--adopt', '--issue'], '--adopt and --issue'],
    [['--adopt', '--session', 'cookie:a'], '--adopt needs one --session header:NAME'],
    [['--adopt', '--session', 'header:a', '--session', 'header:b'], '--adopt needs one --session header:NAME'],
  ])('refuses %j, which contradict each other', (args, message) => {
    expect(() => parse(args)).toThrow(message)
  })

  test('takes no source twice, and no header for two things', () => {
    const twice = (...sources: string[]) => parse(sources.flatMap((source) => ['--session', source]))
    expect(() => twice('header:A', 'path', 'header:a')).toThrow('--session header:a is given twice')
    expect(() => twice('path', 'path:/s')).toThrow('--session path:/s is given twice')
    expect(twice('cookie:a', 'cookie:A', 'path:/a', 'path:/b').sessions).toHaveLength(4)
    expect(() => parse(['--user-header', 'X-Session-Id'])).toThrow('--user-header and --session')
  })

  test('takes no keys beside the ids of workers, and tells where they came from', () => {
    const key = 'a secret of enough bytes'
    expect(() => parse(['--adopt'], { CORRAL_KEYS: key })).toThrow('--adopt and CORRAL_KEYS')
    expect(() => parse(['--adopt', '--keys-file', file('key', key)])).toThrow('--adopt and --keys-file')
    expect(parse(['--adopt', '--session', 'path', '--session', 'header:A'])).toMatchObject({ adopt: true })
  })

  test.each([
    [['--user-header', 'x', '--user-proxy', 'proxy.test'], '--user-proxy: expected addresses'],
    [['--session', 'header:Content-Length'], '--session: expected a header that HTTP itself has no use for'],
    [['--session', 'header:Location'], '--session: expected a header that HTTP itself has no use for'],
    [['--tls-cert', '/no/such', '--tls-key', '/no/such'], '--tls-cert: expected PEM, or the path of a file'],
    [['--host', 'a_b'], '--host: expected an IP address or a host name, without a port, got "a_b"'],
    [['--host', '127.0.0.1:80'], '--host: expected an IP address or a host name, without a port, got "127.0.0.1:80"'],
  ])('starts nothing and ends with status 2 when the library refuses %j', async (args, message) => {
    const { code, stdout, stderr } = await run('echo-server', args).exit
    expect({ code, stdout, stderr }).toEqual({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining(message) as string,
    })
  })

  test('names what this machine lacks by its flags', async () => {
    const { code, stdout } = await run('echo-server', ['--files', '1']).exit
    expect(code).toBe(1)
    expect(stdout).toMatch(/"code":"SANDBOX_UNAVAILABLE".*--files is not to be had: .* go on without, with --degrade/)
  })

  test('tells which of its sessions is the one that a worker named', async () => {
    const options = ['--adopt', '--session', 'header:mcp-session-id', '--health', 'tcp', '--tenant-sessions', 'none']
    const cli = run('names-sessions', options)
    const response = await fetch(`${await urlOf(cli)}/mcp`, { method: 'POST' })
    const id = response.headers.get('mcp-session-id')
    const { sessionId } = await cli.line('session.started')
    expect(await cli.line('session.adopted')).toMatchObject({ sessionId, id })
    cli.kill('SIGTERM')
    expect(await cli.exit).toMatchObject({ code: 0 })
  })

  test('takes the tokens that its file has now, and those of before while it is of no use', async () => {
    const path = file('live', 'alice 0123456789abcdef\n')
    const replace = (content: string) => renameSync(file('next', content), path)
    const cli = run('echo-server', ['--tokens-file', path])
    const url = await urlOf(cli)
    const ask = async (token: string) =>
      (await fetch(url, { headers: { authorization: `Bearer ${token}`, 'x-session-id': 'red' } })).status
    expect(await ask('0123456789abcdef')).toBe(200)

    replace('alice fedcba9876543210\nbob bbbbbbbbbbbbbbbb\n')
    expect(await cli.line('tokens.read')).toMatchObject({ tokens: 2 })
    expect(await Promise.all(['0123456789abcdef', 'fedcba9876543210', 'bbbbbbbbbbbbbbbb'].map(ask))).toEqual([
      401, 200, 200,
    ])

    const kept = 'the tokens that were in it before hold'
    replace('')
    const empty = await cli.line('warning')
    expect(empty['message']).toBe(`--tokens-file: expected at least one token, got none; ${kept}`)
    rmSync(path)
    await cli.text('no such file')
    execFileSync('mkfifo', [path])
    await cli.text('is none')
    expect(await ask('fedcba9876543210')).toBe(200)

    replace('alice cccccccccccccccc\n')
    await cli.line('tokens.read', { tokens: 1 })
    expect(await Promise.all(['fedcba9876543210', 'cccccccccccccccc'].map(ask))).toEqual([401, 200])
    cli.kill('SIGTERM')
    const { code, stdout } = await cli.exit
    expect({ code, warnings: stdout.split(kept).length - 1 }).toEqual({ code: 0, warnings: 3 })
  })

  test('issues signed ids over TLS to the principals that it knows, and takes no others', async () => {
    const key = 'a secret of enough bytes'
    const cli = run('echo-server', [
      '--tls',
      '--issue',
      '--keys-file',
      file('key', key),
      '--tokens-file',
      file('token', 'alice 0123456789abcdef'),
    ])
    const url = await urlOf(cli)
    expect(url).toMatch(/^https:/)
    const { Agent, request } = await import('undici')
    const dispatcher = new Agent({ connect: { rejectUnauthorized: false } })
    const ask = (headers: Record<string, string>) => request(url, { dispatcher, headers })
    expect((await ask({})).statusCode).toBe(401)
    const authorization = 'Bearer 0123456789abcdef'
    const first = await ask({ authorization })
    expect(first.statusCode).toBe(200)
    const id = String(first.headers['x-session-id'])
    const name = createIdSigner(key).verify(id)
    await cli.line('session.started', { sessionId: `alice/${name}` })
    expect((await ask({ authorization, 'x-session-id': id })).statusCode).toBe(200)
    expect((await ask({ authorization, 'x-session-id': String(name) })).statusCode).toBe(401)
    expect((await ask({ 'x-session-id': id })).statusCode).toBe(401)
    await dispatcher.destroy()
    cli.kill('SIGTERM')
    expect(await cli.exit).toMatchObject({ code: 0 })
  })
})
