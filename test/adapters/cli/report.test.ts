import { describe as suite, expect, test } from 'vitest'
import { type ReportEvent, describe, toJson } from '../../../src/adapters/cli/report.ts'
import { SessionLostError, type PoolEvent } from '../../../src/index.ts'

const failure = {
  code: 'WORKER_CRASHED',
  message: 'killed',
  exitCode: null,
  signal: 'SIGKILL',
  output: ['first', 'last words'],
} as const

const lost: PoolEvent<'session.lost'> = {
  type: 'session.lost',
  sessionId: 'red',
  token: 7,
  workerId: 'w1',
  reason: 'crashed',
  exitCode: null,
  signal: 'SIGKILL',
  output: failure.output,
  error: new SessionLostError('red', failure),
}

suite('a report', () => {
  test('says in one line who was lost, why, and what the worker said last', () => {
    expect(describe(lost)).toBe('session "red" lost on w1: crashed, SIGKILL | last words')
  })

  test.each<[Exclude<ReportEvent, { type: 'error' }>, string]>([
    [{ type: 'gateway.listening', url: 'http://127.0.0.1:1', port: 1 }, 'gateway listening on http://127.0.0.1:1'],
    [{ type: 'worker.spawning', workerId: 'w1', incarnation: 0 }, 'worker w1 starting'],
    [{ type: 'worker.spawning', workerId: 'w1', incarnation: 1 }, 'worker w1 starting (start 2)'],
    [
      { type: 'worker.ready', workerId: 'w1', pid: 12, address: { host: '127.0.0.1', port: 4000 } },
      'worker w1 ready, pid 12, 127.0.0.1:4000',
    ],
    [
      { type: 'worker.ready', workerId: 'w1', pid: undefined, address: { socketPath: '/tmp/s' } },
      'worker w1 ready, /tmp/s',
    ],
    [{ type: 'worker.worn', workerId: 'w1', cause: 'memory' }, 'worker w1 to be replaced for its memory'],
    [
      { type: 'session.adopted', sessionId: 'x1', id: 'chosen', principal: 'alice' },
      'session "x1" is called "chosen" by its worker of "alice"',
    ],
    [{ type: 'tokens.read', tokens: 2 }, 'tokens read again: 2 are good now'],
    [{ type: 'worker.draining', workerId: 'w1', failure: null }, 'worker w1 stopping'],
    [
      {
        type: 'worker.draining',
        workerId: 'w1',
        failure: { code: 'WORKER_RESET_FAILED', message: 'no', exitCode: null, signal: null, output: ['why'] },
      },
      'worker w1 stopping: no | why',
    ],
    [
      { type: 'worker.dead', workerId: 'w1', reason: 'stopped', exitCode: 0, signal: null },
      'worker w1 gone: stopped, exit status 0',
    ],
    [
      { type: 'gateway.stopping', signal: 'SIGTERM', grace: 5000 },
      'SIGTERM: no new sessions, open connections get 5s; again to stop now',
    ],
  ])('%j', (event, line) => {
    expect(describe(event)).toBe(line)
  })

  test('no id and no output can forge a line or drive the terminal', () => {
    const sessionId = 'a\nsession "b" lost\u001b[2J\u009b2J\u2028'
    const line = describe({ ...lost, sessionId, output: ['x\r\n\u001b[31mred\u001b[0m\u0000\t\u202egnp'] })
    expect(line).toBe(
      'session "a\\nsession \\"b\\" lost\\u001b[2J\\u009b2J\\u2028" lost on w1: crashed, SIGKILL | x | red\\u0000\t\\u202egnp',
    )
  })

  test.each<[string, string]>([
    ['\u001b[1;31mred\u001b[0m', 'red'],
    ['\u001b[2J\u001b]0;title\u0007', '\\u001b[2J\\u001b]0;title\\u0007'],
    ['50%\r100%', '50%\\u000d100%'],
    ['\u009b31m\u0085[info] forged', '\\u009b31m\\u0085[info] forged'],
    ['a\u2066b\u2029', 'a\\u2066b\\u2029'],
    ['tab\tand é日本', 'tab\tand é日本'],
  ])('of the output %j is %j', (line, shown) => {
    expect(describe({ type: 'worker.output', workerId: 'w1', stream: 'stdout', line })).toBe(`w1 stdout | ${shown}`)
  })

  test('of a request has no word of a stranger unescaped', () => {
    const line = describe({
      type: 'request.ended',
      kind: 'http',
      outcome: 'refused',
      status: 503,
      code: 'QUEUE_FULL',
      method: 'GET',
      target: '/\u001b[2J\u009b2J"\n127.0.0.1 GET "/forged" 200',
      sessionId: 'a"\nb',
      principal: 'c\nd\u009b2J',
      address: '::1',
      workerId: undefined,
      startedAt: 0,
      wait: undefined,
      duration: 1.6,
      bytesIn: 0,
      bytesOut: 0,
    })
    expect(line).toBe(
      '::1 GET "/\\u001b[2J\\u009b2J\\"\\n127.0.0.1 GET \\"/forged\\" 200" 503 refused QUEUE_FULL, 2ms, 0 B in, 0 B out, session "a\\"\\nb" of "c\\nd\\u009b2J"',
    )
  })

  test('as JSON has the time, the type, the fields, and errors as code and message', () => {
    const time = new Date(0)
    expect(JSON.parse(toJson(lost, time))).toEqual({
      ...lost,
      time: '1970-01-01T00:00:00.000Z',
      error: { code: 'SESSION_LOST', message: lost.error.message },
    })
    for (const error of [new Error('x'), Object.assign(new Error('x'), { code: undefined })]) {
      expect(JSON.parse(toJson({ type: 'error', error }, time))).toEqual({
        time: '1970-01-01T00:00:00.000Z',
        type: 'error',
        error: { message: 'x' },
      })
    }
    expect(toJson(lost, time)).not.toContain('\n')
    const hostile = { ...lost, sessionId: 'a\n\u001b[2J\u007f\u009b2J\u2028\u202e' }
    expect(toJson(hostile, time)).toMatch(/^[\u0020-\u007e]+$/)
    expect(JSON.parse(toJson(hostile, time))).toMatchObject({ sessionId: hostile.sessionId })
  })
})
