import { describe, expect, test } from 'vitest'
import * as z from 'zod'
import { InvalidOptionError } from '../../src/runtime/errors.ts'
import { callback, count, duration, validate } from '../../src/runtime/validate.ts'

const hook = z.strictObject({
  reset: z.union([z.string(), callback<() => void>()]),
  timeout: duration.optional(),
})
const schema = z
  .strictObject({
    name: z.string().min(1),
    min: count.default(1),
    max: count.default(10),
    wait: duration.optional(),
    mode: z.enum(['tcp', 'http']).optional(),
    tags: z.array(z.string()).optional(),
    env: z.record(z.string(), z.union([z.string(), z.undefined()])).optional(),
    reuse: z.union([z.literal(false), z.literal('dirty'), hook]).optional(),
    nested: z.strictObject({ path: z.string().optional(), startTimeout: duration.default(5) }).prefault({}),
  })
  .refine(({ min, max }) => min <= max, { path: ['max'], message: 'size.min or more' })

function problem(value: unknown): string {
  try {
    validate(schema, value)
  } catch (error) {
    if (error instanceof InvalidOptionError) return error.message
    throw error
  }
  throw new Error('expected the value to be refused')
}

describe('a valid value', () => {
  test('is returned with its defaults', () => {
    expect(validate(schema, { name: 'a' })).toEqual({ name: 'a', min: 1, max: 10, nested: { startTimeout: 5 } })
  })

  test('keeps functions and objects as they are', () => {
    const reset = () => {}
    expect(validate(hook, { reset }).reset).toBe(reset)
  })
})

describe('a wrong value is named with what was expected and what was found', () => {
  test.each([
    [{ name: 3 }, 'Invalid option "name": expected a string, got 3'],
    [{}, 'Invalid option "name": expected a string, got undefined'],
    [{ name: '' }, 'Invalid option "name": expected text that is not empty, got ""'],
    [{ name: 'a', mode: 'udp' }, 'Invalid option "mode": expected "tcp" or "http", got "udp"'],
    [{ name: 'a', tags: ['b', null] }, 'Invalid option "tags.1": expected a string, got null'],
    [{ name: 'a', env: { KEY: 1 } }, 'Invalid option "env.KEY": expected a string or undefined, got 1'],
    [{ name: 'a', nested: [] }, 'Invalid option "nested": expected an object, got an empty array'],
    [{ name: 'a', max: 0 }, 'Invalid option "max": expected size.min or more, got 0'],
    [null, 'Invalid option "options": expected an object, got null'],
    ['text', 'Invalid option "options": expected an object, got "text"'],
  ])('%j', (value, message) => {
    expect(problem(value)).toBe(message)
  })

  test('a value that breaks a refinement because of a default', () => {
    expect(problem({ name: 'a', min: 20 })).toBe('Invalid option "max": expected size.min or more, got 10')
  })

  test('long text is cut', () => {
    expect(problem({ name: 'a', mode: 'x'.repeat(500) }).length).toBeLessThan(200)
  })
})

describe('durations and counts', () => {
  test.each([-1, Number.NaN, Number.POSITIVE_INFINITY, 2_147_483_648, '5s', null])('duration %s is refused', (wait) => {
    expect(problem({ name: 'a', wait })).toMatch(
      /^Invalid option "wait": expected a duration in milliseconds from 0 to 2147483647, got /,
    )
  })

  test.each([-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '3'])('count %s is refused', (min) => {
    expect(problem({ name: 'a', min })).toMatch(/^Invalid option "min": expected a whole number of 0 or more, got /)
  })

  test('zero and the longest delay of a timer are accepted', () => {
    expect(validate(duration, 0)).toBe(0)
    expect(validate(duration, 2_147_483_647)).toBe(2_147_483_647)
    expect(validate(count, 0)).toBe(0)
  })
})

describe('unknown keys', () => {
  test('name the closest known key', () => {
    expect(problem({ name: 'a', nested: { startTimout: 5 } })).toBe(
      'Invalid option "nested.startTimout": expected one of the known options (did you mean "startTimeout"?), got an unknown option',
    )
  })

  test('list the known keys when none is close', () => {
    expect(problem({ name: 'a', nested: { colour: 'red' } })).toBe(
      'Invalid option "nested.colour": expected one of the known options (path, startTimeout), got an unknown option',
    )
  })

  test('are reported before the key that is missing because of them', () => {
    expect(problem({ nmae: 'a' })).toContain('did you mean "name"?')
  })
})

describe('unions', () => {
  test('that match nothing list every alternative', () => {
    expect(problem({ name: 'a', reuse: 'clean' })).toBe(
      'Invalid option "reuse": expected false, "dirty" or an object, got "clean"',
    )
  })

  test('report the problem inside the alternative that was meant', () => {
    expect(problem({ name: 'a', reuse: { reset: 3 } })).toBe(
      'Invalid option "reuse.reset": expected a string or a function, got 3',
    )
    expect(problem({ name: 'a', reuse: { reset: '/', timeout: -1 } })).toContain('"reuse.timeout"')
    expect(problem({ name: 'a', reuse: { reset: '/', timout: 1 } })).toContain('did you mean "timeout"?')
  })
})
