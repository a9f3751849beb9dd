import { describe, expect, test } from 'vitest'
import { createEnvironment } from '../../../src/runtime/process/environment.ts'

const parent = {
  PATH: '/bin',
  HOME: '/root',
  LANG: 'C',
  LC_ALL: 'C.UTF-8',
  TMPDIR: '/tmp',
  PORT: '8080',
  AWS_SECRET_ACCESS_KEY: 'secret',
  NODE_OPTIONS: '--inspect',
  PATHLIKE: 'x',
}

describe('the environment of a worker', () => {
  test("is the allowed part of the parent's", () => {
    const { PATH, HOME, LANG, LC_ALL, TMPDIR } = parent
    expect(createEnvironment({}, parent)).toEqual({ PATH, HOME, LANG, LC_ALL, TMPDIR })
  })

  test('has what was given, which wins', () => {
    expect(createEnvironment({ PATH: '/opt/bin', TOKEN: 't' }, { PATH: '/bin' })).toEqual({
      PATH: '/opt/bin',
      TOKEN: 't',
    })
  })

  test('lacks what was given as undefined', () => {
    expect(createEnvironment({ HOME: undefined }, { PATH: '/bin', HOME: '/root' })).toEqual({ PATH: '/bin' })
  })
})
