import { describe, expect, test } from 'vitest'
import { exitFailure, toFailure, withExit, type ProcessExit } from '../../src/machines/failure.ts'

const exit: ProcessExit = { exitCode: 3, signal: null }

describe('the failure of a process that ended', () => {
  test.each<[Partial<ProcessExit>, string]>([
    [{}, 'The worker exited with status 3'],
    [{ exitCode: 0 }, 'The worker exited with status 0'],
    [{ exitCode: null, signal: 'SIGKILL' }, 'The worker was ended by SIGKILL'],
    [{ exitCode: null }, 'The worker ended'],
    [{ message: 'Port 80 was taken' }, 'Port 80 was taken'],
  ])('says how: %j', (how, message) => {
    const { exitCode, signal } = { ...exit, ...how }
    expect(exitFailure('WORKER_CRASHED', { ...exit, ...how })).toEqual({
      code: 'WORKER_CRASHED',
      message,
      exitCode,
      signal,
      output: [],
    })
  })

  test('says when, for a start', () => {
    const { message } = exitFailure('WORKER_START_FAILED', exit)
    expect(message).toBe('The worker exited with status 3 before it was ready')
  })

  test('has the last lines', () => {
    expect(exitFailure('WORKER_CRASHED', { ...exit, output: ['one', 'two'] }).output).toEqual(['one', 'two'])
  })
})

describe('the failure that something thrown stands for', () => {
  test.each<[unknown, string]>([
    [new Error('no answer'), 'no answer'],
    ['no answer', 'no answer'],
    [null, 'null'],
    [undefined, 'undefined'],
  ])('has its message: %o', (cause, message) => {
    const failure = { code: 'WORKER_UNHEALTHY', message, exitCode: null, signal: null, output: [] }
    expect(toFailure('WORKER_UNHEALTHY', cause)).toEqual(failure)
  })

  test('keeps the lines of output on it, and nothing else of that name', () => {
    const withOutput = (output: unknown) => toFailure('WORKER_UNHEALTHY', Object.assign(new Error(), { output })).output
    expect(withOutput(['one', 'two'])).toEqual(['one', 'two'])
    expect(withOutput('one')).toEqual([])
  })
})

describe('the end of the process that comes after the first cause', () => {
  const first = toFailure('WORKER_UNHEALTHY', Object.assign(new Error('no answer'), { output: ['first'] }))

  test('fills in status and signal and leaves the cause in front', () => {
    expect(withExit(first, { exitCode: null, signal: 'SIGKILL' })).toEqual({ ...first, signal: 'SIGKILL' })
    expect(withExit(first, exit)).toEqual({ ...first, exitCode: 3 })
  })

  test('adds what it has to say, once', () => {
    expect(withExit(first, { ...exit, message: 'It hung' }).message).toBe('no answer. It hung')
    expect(withExit(first, { ...exit, message: 'no answer' }).message).toBe('no answer')
  })

  test('has later lines, if it has any', () => {
    expect(withExit(first, { ...exit, output: ['last'] }).output).toEqual(['last'])
    expect(withExit(first, { ...exit, output: [] }).output).toEqual(['first'])
    expect(withExit(first, exit).output).toEqual(['first'])
  })
})
