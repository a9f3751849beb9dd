import { createPool } from 'corral'
import { describe, expect, test } from 'vitest'
import { FakeBackend } from '../support/fake-backend.ts'
import { rejection } from '../support/scene.ts'

const DURATION = 'a duration in milliseconds from 0 to 2147483647'
const COUNT = 'a whole number of 0 or more'
const POSITIVE = 'a whole number of 1 or more'

describe('createPool refuses', () => {
  test.each<[Record<string, unknown>, string, string, string]>([
    [{ size: { min: 3, max: 2 } }, 'size.min', 'a number not above size.max', '3'],
    [{ size: { min: -1 } }, 'size.min', COUNT, '-1'],
    [{ size: { min: 1.5 } }, 'size.min', COUNT, '1.5'],
    [{ size: { min: '2' } }, 'size.min', COUNT, '"2"'],
    [{ size: { max: 0 } }, 'size.max', POSITIVE, '0'],
    [{ size: { max: Number.POSITIVE_INFINITY } }, 'size.max', POSITIVE, 'Infinity'],
    [{ size: { max: Number.NaN } }, 'size.max', POSITIVE, 'NaN'],
    [{ size: { startConcurrency: 0 } }, 'size.startConcurrency', POSITIVE, '0'],
    [{ size: { shrinkAfter: -5 } }, 'size.shrinkAfter', DURATION, '-5'],
    [
      { size: { min: 2, max: 3, warm: 2 } },
      'size.warm',
      'a number that fits: size.min + size.warm may not exceed size.max',
      '2',
    ],
    [
      { session: { idle: 'bytes', idleTtl: 0 } },
      'session.idleTtl',
      "a duration above 0 with session.idle 'bytes'",
      '0',
    ],
    [
      { session: { idle: 'bytes', idleTtl: false } },
      'session.idleTtl',
      "a duration above 0 with session.idle 'bytes'",
      'false',
    ],
    [{ session: { idleTtl: -1 } }, 'session.idleTtl', DURATION, '-1'],
    [{ session: { idleTtl: true } }, 'session.idleTtl', `${DURATION} or false`, 'true'],
    [{ session: { idleTtl: Number.POSITIVE_INFINITY } }, 'session.idleTtl', `${DURATION} or false`, 'Infinity'],
    [{ session: { maxAge: '1h' } }, 'session.maxAge', `${DURATION} or false`, '"1h"'],
    [{ session: { maxLifetime: 0 } }, 'session.maxLifetime', 'a duration of at least 1 ms', '0'],
    [{ session: { grace: 2 ** 31 } }, 'session.grace', DURATION, '2147483648'],
    [{ session: { reuse: { reset: 'reset' } } }, 'session.reuse.reset', 'a path that begins with "/"', '"reset"'],
    [{ session: { reuse: { reset: '/reset', timeout: -1 } } }, 'session.reuse.timeout', DURATION, '-1'],
    [{ recycle: { age: 0 } }, 'recycle.age', 'a duration of at least 1 ms', '0'],
    [{ recycle: { memory: 0 } }, 'recycle.memory', POSITIVE, '0'],
    [{ queue: { limit: -1 } }, 'queue.limit', COUNT, '-1'],
    [{ queue: { timeout: Number.NaN } }, 'queue.timeout', DURATION, 'NaN'],
    [{ restart: { limit: 0.5 } }, 'restart.limit', COUNT, '0.5'],
    [
      { restart: { minDelay: 2_000, maxDelay: 1_000 } },
      'restart.minDelay',
      'a duration not above restart.maxDelay',
      '2000',
    ],
    [{ breaker: { failures: 0 } }, 'breaker.failures', POSITIVE, '0'],
    [{ breaker: { cooldown: null } }, 'breaker.cooldown', DURATION, 'null'],
    [{ signal: {} }, 'signal', 'an AbortSignal', 'an empty object'],
    [{ inspect: 'yes' }, 'inspect', 'a function', '"yes"'],
  ])('%j', async (options, option, expected, got) => {
    const backend = new FakeBackend()
    const error = await rejection(createPool({ worker: backend, ...options }))
    expect(error).toMatchObject({ name: 'InvalidOptionError', code: 'INVALID_OPTION', option })
    expect(error.message).toBe(`Invalid option "${option}": expected ${expected}, got ${got}`)
    expect(backend.calls).toBe(0)
  })

  test.each<[Record<string, unknown>, string, string]>([
    [{ sise: {} }, 'sise', 'size'],
    [{ size: { mim: 1 } }, 'size.mim', 'min'],
    [{ session: { idleTTL: 1 } }, 'session.idleTTL', 'idleTtl'],
    [{ session: { reuse: { reset: '/', timout: 1 } } }, 'session.reuse.timout', 'timeout'],
  ])('an option it does not know, and names the one that was meant: %j', async (options, option, meant) => {
    const error = await rejection(createPool({ worker: new FakeBackend(), ...options }))
    expect(error).toMatchObject({ code: 'INVALID_OPTION', option })
    expect(error.message).toContain(`did you mean "${meant}"?`)
  })

  test.each<[unknown, string]>([
    [undefined, 'options'],
    [null, 'options'],
    [{}, 'worker'],
    [{ worker: null }, 'worker'],
    [{ worker: {} }, 'worker.launch'],
    [{ worker: { launch: 'x' } }, 'worker.launch'],
    [{ worker: { launch: () => {}, startTimeout: -1 } }, 'worker.startTimeout'],
    [{ worker: { launch: () => {}, startAttempts: 0 } }, 'worker.startAttempts'],
    [{ worker: { launch: () => {}, liveness: { failures: 0 } } }, 'worker.liveness.failures'],
    [{ worker: { launch: () => {}, liveness: { every: 1 } } }, 'worker.liveness.every'],
  ])('%j', async (options, option) => {
    const error = await rejection(createPool(options as never))
    expect(error).toMatchObject({ code: 'INVALID_OPTION', option })
  })
})
