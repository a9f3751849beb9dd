import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { problems } from '../../src/adapters/h3/problem.ts'
import { root } from '../_build.ts'

test('docs/gateway.md lists every problem with its status, Retry-After and close code', () => {
  const rows = readFileSync(`${root}docs/gateway.md`, 'utf8').matchAll(/^\| (`[A-Z_]+`(?:, `[A-Z_]+`)*) +\|(.*)\|$/gm)
  const listed = [...rows].flatMap(([, codes = '', rest = '']) => {
    const [status, retry, close] = rest.split('|').map((cell) => cell.trim())
    return codes.split(', ').map((code) => [code.replaceAll('`', ''), [status, retry, close]] as const)
  })
  const table = Object.entries(problems).map(([code, { status, retry, close }]) => {
    // The one whose status is the error's own.
    const shown = code === 'REQUEST_REFUSED' ? '400–499' : String(status)
    return [code, [shown, retry ? 'yes' : '', String(close)]] as const
  })
  expect(listed).toHaveLength(table.length)
  expect(Object.fromEntries(listed)).toEqual(Object.fromEntries(table))
})
