import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { formatDuration, parseDuration } from '../../../src/adapters/cli/duration.ts'

describe('durations', () => {
  test.each([
    ['0', 0],
    ['0s', 0],
    ['500ms', 500],
    ['30s', 30_000],
    ['5m', 300_000],
    ['1h30m', 5_400_000],
    ['1d2h3m4s5ms', 93_784_005],
    ['1.5s', 1500],
    ['2d', 172_800_000],
  ])('%s is %d ms', (text, milliseconds) => {
    expect(parseDuration(text)).toBe(milliseconds)
  })

  test.each([
    '',
    ' ',
    '5',
    '1000',
    'm',
    '5 m',
    '-5m',
    '5m ',
    '1h30',
    '5x',
    '1e3s',
    'never',
    '5M',
    '.5s',
    '5s5s',
    '1m1h',
    '1s1d',
    '1ms1s',
  ])('%j is none', (text) => {
    expect(parseDuration(text)).toBeUndefined()
  })

  test('what is written can be read again', () => {
    fc.assert(
      fc.property(fc.nat(2_147_483_647), (milliseconds) => {
        expect(parseDuration(formatDuration(milliseconds))).toBe(milliseconds)
      }),
    )
  })

  test('are written with the largest units that are exact', () => {
    expect([0, 90_000, 250, 86_400_000].map(formatDuration)).toEqual(['0', '1m30s', '250ms', '1d'])
  })
})
