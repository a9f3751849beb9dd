import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { root } from '../../_build.ts'
import { fixtureProcesses, leavesNoProcess } from '../../_processes.ts'
import { dial } from '../h3/_scene.ts'
import { valueOf } from '../metrics/_exposition.ts'
import { type Cli, corral, get, getJson, run, urlOf, usesCli, worker } from './_cli.ts'

usesCli()
leavesNoProcess()

describe('--metrics', () => {
  test('serves those of the pool, the gateway and the process', async () => {
    const cli = run('echo-server', ['--admin', '0', '--metrics', '--min', '2'])
    const url = await urlOf(cli)
    const admin = String((await cli.line('admin.listening'))['url'])
    await getJson(url, 'red')
    const client = await dial(Number(new URL(url).port))
    client.send('no HTTP\r\n\r\n')
    await client.rest()
    const response = await fetch(`${admin}/metrics`)
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8')
    const text = await response.text()
    expect(valueOf(text, 'corral_worker_start_duration_seconds_count', { outcome: 'ready' })).toBeGreaterThanOrEqual(2)
    expect(valueOf(text, 'corral_sessions', { state: 'idle' })).toBe(1)
    expect(valueOf(text, 'corral_requests_total', { outcome: 'answered' })).toBe(1)
    expect(valueOf(text, 'corral_malformed_requests_total', { code: 'REQUEST_MALFORMED' })).toBe(1)
    expect(valueOf(text, 'process_cpu_seconds_total')).toBeGreaterThan(0)
    await stop(cli)
  })

  test('are not there without it', async () => {
    const cli = run('echo-server', ['--admin', '0'])
    const admin = String((await cli.line('admin.listening'))['url'])
    await urlOf(cli)
    expect((await fetch(`${admin}/metrics`)).status).toBe(404)
    await stop(cli)
  })
})

describe('--access-log', () => {
  test('tells of each request when it is over, without its query', async () => {
    const cli = run('echo-server', ['--access-log'])
    const url = await urlOf(cli)
    await (await get(`${url}/a?secret=1`, 'red', { method: 'POST', body: 'abc' })).text()
    const ended = await cli.line('request.ended')
    expect(ended).toMatchObject({
      kind: 'http',
      outcome: 'answered',
      method: 'POST',
      target: '/a',
      status: 200,
      sessionId: 'red',
      workerId: expect.stringMatching(/^w\d+$/),
      address: '127.0.0.1',
      bytesIn: 3,
    })
    expect(JSON.stringify(ended)).not.toContain('secret')
    await fetch(url)
    expect(await cli.line('request.ended', { outcome: 'refused' })).toMatchObject({
      status: 400,
      code: 'SESSION_ID_MISSING',
    })
    await stop(cli)
  })

  test('with --access-log-query has the query', async () => {
    const cli = run('echo-server', ['--access-log', '--access-log-query'])
    await getJson(`${await urlOf(cli)}/a?q=1`, 'red')
    expect(await cli.line('request.ended')).toMatchObject({ target: '/a?q=1' })
    await stop(cli)
  })

  test('is made of lines to read without --json', async () => {
    const cli = corral(['run', '--port', '0', '--access-log', ...worker('echo-server')])
    const [, url = ''] = /gateway listening on (\S+)/.exec(await cli.text('gateway listening on')) ?? []
    await getJson(`${url}/a?b`, 'red')
    expect(await cli.text('127.0.0.1 GET')).toMatch(
      /127\.0\.0\.1 GET "\/a" 200, \d+ms, 0 B in, \d+ B out, session "red" on w1$/,
    )
    await stop(cli)
  })

  test('is silent without it', async () => {
    const cli = run('echo-server')
    await getJson(await urlOf(cli), 'red')
    await stop(cli)
    expect((await cli.exit).stdout).not.toContain('request.ended')
  })
})

describe('--otel', () => {
  test('makes a span of each request with the SDK that Node imported, and the worker is in its trace', async () => {
    const spans = join(mkdtempSync(join(tmpdir(), 'corral-')), 'spans')
    process.env['SPANS'] = spans
    const cli = run('echo-server', ['--otel'], ['--import', `${root}test/adapters/cli/_sdk.mjs`])
    delete process.env['SPANS']
    const answer = await getJson(`${await urlOf(cli)}/a`, 'red')
    // Nothing that was held back is lost at the end.
    await stop(cli)
    const [line = ''] = readFileSync(spans, 'utf8').split('\n')
    const span = JSON.parse(line) as { name: string; traceId: string; spanId: string; attributes: object }
    expect(span).toMatchObject({ name: 'GET', attributes: { 'url.path': '/a', 'http.response.status_code': 200 } })
    expect(answer['headers']).toMatchObject({ traceparent: `00-${span.traceId}-${span.spanId}-01` })
    expect((await cli.exit).stdout).not.toContain('"type":"warning"')
    rmSync(dirname(spans), { recursive: true })
  })

  test.each([
    ['tells that spans are lost when the collector does not answer', '3s', 0],
    ['waits less for the collector after a second signal', '1s', 1],
  ])('%s', async (_, limit, code) => {
    const cli = run('echo-server', ['--otel'], ['--import', `${root}test/adapters/cli/_sdk.mjs`])
    await getJson(await urlOf(cli), 'red')
    const exporting = once(cli.child.stderr!, 'data')
    cli.kill('SIGTERM')
    expect(await exporting).toEqual(['exporting\n'])
    if (code === 1) {
      cli.kill('SIGINT')
      expect(await cli.line('gateway.cutting')).toMatchObject({ signal: 'SIGINT' })
    }
    expect((await cli.line('warning'))['message']).toContain(`were not exported within ${limit}, and are lost`)
    expect(await cli.exit).toMatchObject({ code, stdout: expect.stringMatching(/"gateway\.stopped"\}\n$/) })
    expect(fixtureProcesses()).toEqual([])
  })

  test('warns when there is no SDK to take the spans, and goes on', async () => {
    const cli = run('echo-server', ['--otel'])
    expect((await cli.line('warning'))['message']).toContain('no OpenTelemetry SDK is registered')
    expect(await getJson(await urlOf(cli), 'red')).toMatchObject({ count: 1 })
    await stop(cli)
  })
})

test.each([
  ['prom-client', ['--admin', '0', '--metrics'], 'corral/metrics'],
  ['@opentelemetry/api', ['--otel'], 'corral/otel'],
])('without %s %j says what to install, and starts nothing', async (peer, options, entry) => {
  // As if it was not installed.
  const hooks = `export function resolve(name, context, next) {
    if (name === ${JSON.stringify(peer)}) throw Object.assign(new Error('gone'), { code: 'ERR_MODULE_NOT_FOUND' })
    return next(name, context)
  }`
  const register = `import { register } from 'node:module'; register(${JSON.stringify(dataUrl(hooks))})`
  const cli = corral(['run', '--port', '0', ...options, ...worker('echo-server')], ['--import', dataUrl(register)])
  const { code, stdout, stderr } = await cli.exit
  expect(code).toBe(1)
  expect(stderr).toBe(`corral: ${entry} needs the package ${peer}, which is not installed: npm install ${peer}\n`)
  expect(stdout).not.toContain('listening')
  expect(fixtureProcesses()).toEqual([])
})

function dataUrl(source: string): string {
  return `data:text/javascript,${encodeURIComponent(source)}`
}

/** Ends it, and checks that it ended as asked. */
async function stop(cli: Cli): Promise<void> {
  cli.kill('SIGTERM')
  const { code, stderr } = await cli.exit
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(fixtureProcesses()).toEqual([])
}
