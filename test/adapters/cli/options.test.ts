import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { flags, inFlags } from '../../../src/adapters/cli/flags.ts'
import { UsageError } from '../../../src/adapters/cli/given.ts'
import { parseRunOptions } from '../../../src/adapters/cli/options.ts'

const parse = (line: string, env: Record<string, string> = {}) => parseRunOptions(line.split(' ').filter(Boolean), env)

describe('corral run', () => {
  test('without options is a gateway on 127.0.0.1:8080 with one worker to ten', () => {
    expect(parse('-- node server.js')).toEqual({
      host: '127.0.0.1',
      port: 8080,
      identity: {
        sessions: [{ from: 'header', name: 'x-session-id' }],
        issue: false,
        sign: undefined,
        adopt: false,
        authorize: undefined,
      },
      tls: false,
      proxies: 0,
      headersTimeout: 15_000,
      keepAliveTimeout: 5000,
      responseTimeout: 300_000,
      sendTimeout: 60_000,
      pingInterval: 0,
      requestsPerSession: 256,
      pool: {
        size: { min: 1, max: 10, warm: 0 },
        session: {
          idleTtl: 300_000,
          idle: 'connections',
          maxAge: false,
          maxLifetime: false,
          grace: 5000,
          reuse: false,
          reuseLimit: false,
        },
        recycle: { age: false, memory: false },
        queue: { limit: 1000, timeout: 30_000 },
        tenant: { sessions: undefined, waiting: 100 },
        pressure: { memory: false, cpu: false, action: 'wait' },
      },
      healthPath: '/health',
      startTimeout: 30_000,
      env: {},
      isolation: {
        isolation: { level: 'group', network: 'host', binds: [] },
        limits: {},
        onUnavailable: 'fail',
        stateDirectory: undefined,
      },
      grace: 5000,
      drainDelay: 0,
      admin: undefined,
      metrics: false,
      otel: false,
      accessLog: undefined,
      json: false,
      verbose: false,
      command: 'node',
      args: ['server.js'],
    })
  })

  test('takes every option but those that contradict others', () => {
    const line =
      '--issue --user-header x-user --user-proxy 10.0.0.0/8 --user-proxy ::1 --proxies 2 --tls-cert c.pem --tls-key k.pem ' +
      '--idle bytes --max-lifetime 2h --tenant-sessions none --tenant-waiting 7 --memory-mark 90% --cpu-mark 95 --pressure refuse ' +
      '--headers-timeout 5s --keep-alive 75s --response-timeout 0 --send-timeout 3m --ping-interval 30s --requests-per-session 9 ' +
      '--host 0.0.0.0 --port 0 --session cookie:sid --session query:s --session path --session path:/t --min 2 --max 4 --warm 1 ' +
      '--ttl 10m --max-age 1h --reuse reset --reset-path /reset --reuse-limit 100 --recycle-age 12h --recycle-memory 1GiB --health-path /up --start-timeout 1m --env A=1 --env B=x=y ' +
      '--isolation full --network none --bind /opt --bind /data:rw --memory 1.5GiB --cpu 0.5 --pids 9 --files 99 --disk 4KiB --state-dir /s --degrade ' +
      '--queue-limit 0 --acquire-timeout 0 --grace 10s --drain-delay 3s --admin 9000 --admin-host a.test --admin-host b.test --metrics --otel --access-log --access-log-query --json --verbose -- a b'
    expect(parse(line)).toEqual({
      host: '0.0.0.0',
      port: 0,
      identity: {
        sessions: [
          { from: 'cookie', name: 'sid' },
          { from: 'query', name: 's' },
          { from: 'path', prefix: '/s' },
          { from: 'path', prefix: '/t' },
        ],
        issue: true,
        sign: undefined,
        adopt: false,
        authorize: { header: 'x-user', proxies: ['10.0.0.0/8', '::1'] },
      },
      tls: { cert: 'c.pem', key: 'k.pem' },
      proxies: 2,
      headersTimeout: 5000,
      keepAliveTimeout: 75_000,
      responseTimeout: 0,
      sendTimeout: 180_000,
      pingInterval: 30_000,
      requestsPerSession: 9,
      pool: {
        size: { min: 2, max: 4, warm: 1 },
        session: {
          idleTtl: 600_000,
          idle: 'bytes',
          maxAge: 3_600_000,
          maxLifetime: 7_200_000,
          grace: 10_000,
          reuse: { reset: '/reset' },
          reuseLimit: 100,
        },
        recycle: { age: 43_200_000, memory: 1024 ** 3 },
        queue: { limit: 0, timeout: 0 },
        tenant: { sessions: false, waiting: 7 },
        pressure: { memory: 0.9, cpu: 0.95, action: 'refuse' },
      },
      healthPath: '/up',
      startTimeout: 60_000,
      env: { A: '1', B: 'x=y' },
      isolation: {
        isolation: {
          level: 'full',
          network: 'none',
          binds: [
            { source: '/opt', access: 'read-only' },
            { source: '/data', access: 'read-write' },
          ],
        },
        limits: { memory: 1.5 * 1024 ** 3, cpu: 0.5, pids: 9, files: 99, disk: 4096 },
        onUnavailable: 'degrade',
        stateDirectory: '/s',
      },
      grace: 10_000,
      drainDelay: 3000,
      admin: {
        host: '127.0.0.1',
        port: 9000,
        token: undefined,
        tokenFrom: 'CORRAL_ADMIN_TOKEN',
        hosts: ['a.test', 'b.test'],
      },
      metrics: true,
      otel: true,
      accessLog: { queries: true },
      json: true,
      verbose: true,
      command: 'a',
      args: ['b'],
    })
  })

  test('leaves everything behind the first "--" to the command', () => {
    const { command, args, port } = parse('--port=1 -- tool --port 2 --help -- x')
    expect({ command, args, port }).toEqual({ command: 'tool', args: ['--port', '2', '--help', '--', 'x'], port: 1 })
  })

  test('takes variables of any name that programs use', () => {
    expect(parse('--env discovery.type=x --env a-b=y -- a').env).toEqual({ 'discovery.type': 'x', 'a-b': 'y' })
  })

  test('passes its own variable on when --env has no value', () => {
    expect(parse('--env TOKEN --env EMPTY= -- a', { TOKEN: 't' }).env).toEqual({ TOKEN: 't', EMPTY: '' })
  })

  test.each([
    ['--health tcp -- a', undefined],
    ['--health http -- a', '/health'],
    ['--health http --health-path /x?deep=1 -- a', '/x?deep=1'],
  ])('%s probes %s', (line, path) => {
    expect(parse(line).healthPath).toBe(path)
  })

  test.each([
    ['9000', { host: '127.0.0.1', port: 9000 }],
    ['0.0.0.0:9000', { host: '0.0.0.0', port: 9000 }],
    ['[::1]:0', { host: '::1', port: 0 }],
    ['localhost:1', { host: 'localhost', port: 1 }],
  ])('--admin %s', (text, address) => {
    expect(parse(`--admin ${text} -- a`).admin).toMatchObject(address)
  })

  test('takes the passphrase of a key from the environment', () => {
    const env = { CORRAL_TLS_PASSPHRASE: 'secret' }
    expect(parse('--tls-cert c --tls-key k -- a', env).tls).toEqual({ cert: 'c', key: 'k', passphrase: 'secret' })
  })

  test('an empty passphrase in the environment is none', () => {
    const { tls } = parse('--tls-cert c --tls-key k -- a', { CORRAL_TLS_PASSPHRASE: '' })
    expect(tls).toEqual({ cert: 'c', key: 'k', passphrase: undefined })
  })

  test.each([
    ['session.maxAge is not session.maxAgeing', '--max-age is not session.maxAgeing'],
    ['isolation "full" without isolation.network "none"', '--isolation "full" without --network "none"'],
    ['with tls.passphrase beside tls.key', 'with CORRAL_TLS_PASSPHRASE beside --tls-key'],
  ])('says of %j %j', (message, said) => {
    expect(inFlags(message)).toBe(said)
  })

  test('takes the token of the admin API from the environment, or from a file that is given', () => {
    const file = join(mkdtempSync(join(tmpdir(), 'corral-')), 'token')
    writeFileSync(file, 'of-the-file\n')
    const env = { CORRAL_ADMIN_TOKEN: 'of-the-environment' }
    expect(parse('--admin 1 -- a', env).admin?.token).toBe('of-the-environment')
    expect(parse(`--admin 1 --admin-token-file ${file} -- a`, env).admin?.token).toBe('of-the-file')
    expect(parse('--admin 1 -- a', { CORRAL_ADMIN_TOKEN: '' }).admin?.token).toBeUndefined()
    rmSync(dirname(file), { recursive: true })
  })

  test.each([
    ['', 'The command of the workers is missing'],
    ['--', 'The command of the workers is missing'],
    ['node server.js', 'Unexpected "node": the command of the workers goes behind "--"'],
    ['--prot 1 -- a', "Unknown option '--prot'"],
    ['--port -- a', "Option '--port <value>' argument missing"],
    ['--json=1 -- a', "Option '--json' does not take an argument"],
    ['--port 1 --port 2 -- a', '--port is given twice'],
    ['--port x -- a', '--port expects a port from 0 to 65535, got "x"'],
    ['--port 65536 -- a', '--port expects a port'],
    ['--min 1.5 -- a', '--min expects a whole number, got "1.5"'],
    ['--max=-1 -- a', '--max expects a whole number, got "-1"'],
    ['--port -1 -- a', '--port expects a port from 0 to 65535, got "-1"'],
    ['--ttl -5s -- a', '--ttl expects a duration such as 500ms, 5m or 1h30m, got "-5s"'],
    ['--port --json -- a', '--port expects a value (number), got the option "--json"'],
    ['--host -x -- a', '--host expects a value (address), got the option "-x"'],
    ['--ttl 300 -- a', '--ttl expects a duration such as 500ms, 5m or 1h30m; write 300ms or 300s, got "300"'],
    ['--ttl 25d -- a', '--ttl expects at most 24d'],
    ['--headers-timeout 0.4ms -- a', '--headers-timeout expects at least 1ms, got "0.4ms"'],
    ['--ttl 0.5ms -- a', '--ttl expects at least 1ms, got "0.5ms"'],
    ['--ttl 0.9999ms -- a', '--ttl expects at least 1ms, got "0.9999ms"'],
    ['--start-timeout 0.0001s -- a', '--start-timeout expects at least 1ms, got "0.0001s"'],
    [`--ttl 0.${'0'.repeat(400)}1d -- a`, '--ttl expects at least 1ms'],
    ['--memory 0.1 -- a', '--memory expects a size such as 4096, 512MiB or 1.5GiB, got "0.1"'],
    ['--grace never -- a', '--grace expects a duration'],
    ['--session sid -- a', '--session expects header:NAME, cookie:NAME, query:NAME, path or path:/PREFIX, got "sid"'],
    ['--session header: -- a', '--session expects'],
    ['--session path:s -- a', '--session expects a path that starts with /'],
    ['--reuse yes -- a', '--reuse expects off, reset or dirty, got "yes"'],
    ['--reuse reset -- a', '--reuse reset needs --reset-path'],
    ['--reset-path /r -- a', '--reset-path has no effect without --reuse reset'],
    ['--health tcp --health-path /x -- a', '--health-path has no effect with --health tcp'],
    ['--health exec -- a', '--health expects http or tcp'],
    ['--health-path up -- a', '--health-path expects a path that starts with /'],
    ['--env =1 -- a', '--env expects KEY=VALUE or KEY'],
    ['--env A\tB=c -- a', '--env expects KEY=VALUE or KEY, without white space in KEY, got "A\\tB=c"'],
    ['--env A\u0000B=c -- a', '--env expects KEY=VALUE or KEY'],
    ['--env UNSET -- a', '--env expects KEY=VALUE, or the name of a variable that is set, got "UNSET"'],
    ['--env A=1 --env A=1 -- a', '--env A is given twice'],
    ['--proxies 33 -- a', '--proxies expects a whole number from 0 to 32, got "33"'],
    ['--health-path /x#y -- a', '--health-path expects a path that starts with /, without white space and "#", got'],
    ['--idle bytes --ttl 0 -- a', '--idle bytes needs a --ttl above 0 to count to, got 0'],
    ['--idle bytes --ttl never -- a', '--idle bytes needs a --ttl above 0 to count to, got never'],
    ['--isolation full --bind= -- a', '--bind expects a path'],
    ['--state-dir= -- a', '--state-dir expects a path, got ""'],
    ['--keys-file= -- a', '--keys-file expects a file that can be read: ENOENT'],
    ['--tokens-file= -- a', '--tokens-file expects a file that can be read: ENOENT'],
    ['--admin 1 --admin-token-file= -- a', '--admin-token-file expects a file that can be read: ENOENT'],
    ['--admin 8080 -- a', '--admin and --port expect ports of their own, got one for both'],
    ['--host ::1 --port 9 --admin [::1]:9 -- a', '--admin and --port expect ports of their own'],
    ['--idle frames -- a', '--idle expects connections or bytes'],
    ['--tenant-sessions all -- a', '--tenant-sessions expects a whole number'],
    ['--memory-mark 0.9 -- a', '--memory-mark expects a percentage from 1% to 100%, or none, got "0.9"'],
    ['--memory-mark 150 -- a', '--memory-mark expects a percentage from 1% to 100%, or none, got "150"'],
    ['--cpu-mark 0 -- a', '--cpu-mark expects a percentage from 1% to 100%, or none, got "0"'],
    ['--recycle-age old -- a', '--recycle-age expects a duration'],
    ['--recycle-memory much -- a', '--recycle-memory expects a size such as 4096, 512MiB or 1.5GiB, got "much"'],
    ['--reuse dirty --reuse-limit few -- a', '--reuse-limit expects a whole number'],
    ['--reuse-limit 5 -- a', '--reuse-limit has no effect without --reuse'],
    ['--pressure kill -- a', '--pressure expects wait or refuse'],
    ['--pressure refuse -- a', '--pressure refuse has no effect without --memory-mark or --cpu-mark'],
    ['--admin host -- a', '--admin expects HOST:PORT, [IPv6 address]:PORT or PORT, got "host"'],
    ['--admin [127.0.0.1:80]:90 -- a', '--admin expects HOST:PORT, [IPv6 address]:PORT or PORT'],
    ['--admin 127.0.0.1:80:90 -- a', '--admin expects HOST:PORT, [IPv6 address]:PORT or PORT'],
    ['--admin ::1:90 -- a', '--admin expects HOST:PORT, [IPv6 address]:PORT or PORT'],
    ['--admin-token-file f -- a', '--admin-token-file has no effect without --admin'],
    ['--admin-host a.test -- a', '--admin-host has no effect without --admin'],
    ['--admin 1 --admin-token-file /no/such -- a', '--admin-token-file expects a file that can be read: ENOENT'],
    ['--metrics -- a', '--metrics has no effect without --admin'],
    ['--access-log-query -- a', '--access-log-query has no effect without --access-log'],
    ['--drain-delay 3 -- a', '--drain-delay expects a duration'],
  ])('refuses %j', (line, message) => {
    expect(() => parse(line)).toThrow(UsageError)
    expect(() => parse(line)).toThrow(message)
  })

  test('no message is longer than a line', () => {
    for (const line of ['--prot 1 -- a', '--port -- a', '--ttl x -- a']) {
      expect(() => parse(line)).toThrow(/^[^\n]+$/)
    }
  })

  test.each(flags.filter((flag) => flag.default !== undefined))('--$name takes its default', (flag) => {
    expect(() => parse(`--${flag.name} ${flag.default} -- a`)).not.toThrow()
  })
})
