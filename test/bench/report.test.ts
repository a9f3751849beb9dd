import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { cpuRatio, figure, loadTable, target, writeResults } from '../../bench/report.ts'
import { interleave, type Sample } from '../../bench/rounds.ts'

describe('the results of a benchmark', () => {
  test('a target is reached on either side of its limit, and at it', () => {
    expect(target('x', '≤ 80', 80, ' µs')).toEqual({ what: 'x', reach: '≤ 80 µs', measured: '80 µs', met: true })
    expect(target('x', '≤ 80', 80.1).met).toBe(false)
    expect(target('x', '≥ 0.9', 0.91).met).toBe(true)
    expect(target('x', '≥ 0.9', 0.89).met).toBe(false)
    expect(target('what was not measured', '≤ 1', Number.NaN)).toMatchObject({ measured: '–', met: false })
  })

  test('figures have three digits that count', () => {
    expect([0.012_345, 1.005, 12.34, 999.4, 12_345.6].map((value) => figure(value))).toEqual([
      '0.0123',
      '1',
      '12.3',
      '999',
      '12,346',
    ])
  })

  test('a row has the medians of its subject, and the first one’s CPU by its own', () => {
    const samples = new Map([
      ['ours', [sample(10), sample(30), sample(20)]],
      ['peer', [sample(20), sample(60), sample(40)]],
    ])
    expect(loadTable(samples).split('\n').slice(2)).toEqual([
      '| ours | 20 | 1 | 500 | 1 | 2 | 3 | 4 |',
      '| peer | 40 | 0.5 | 500 | 1 | 2 | 3 | 4 |',
    ])
    expect(cpuRatio(samples, 'peer', 'ours')).toBe(2)
  })

  test('subjects take turns', async () => {
    const order: string[] = []
    const samples = await interleave([{ name: 'a' }, { name: 'b' }], 2, async ({ name }, round) => {
      order.push(name)
      return round
    })
    expect(order).toEqual(['a', 'b', 'a', 'b'])
    expect([...samples]).toEqual([
      ['a', [0, 1]],
      ['b', [0, 1]],
    ])
  })

  test('a run of some sections leaves what the file says of the others', () => {
    const folder = mkdtempSync(join(tmpdir(), 'corral-results-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const file = join(folder, 'RESULTS.md')
    writeResults(file, ['one', 'two'], new Map([['two', '## two\n\nold\n']]))
    writeResults(file, ['one', 'two'], new Map([['one', '## one\n\n### a\n']]))
    writeResults(file, ['one', 'two'], new Map([['two', '## two\n\nnew\n']]))
    expect(readFileSync(file, 'utf8').split('\n## ').slice(1)).toEqual(['one\n\n### a\n', 'two\n\nnew\n'])
  })
})

function sample(cpu: number): Sample {
  return { operations: 1_000, seconds: 2, p50: 1, p90: 2, p99: 3, cpu, memory: 4 * 2 ** 20 }
}
