import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { root } from '../_build.ts'

const passed = { status: 'passed', assertionResults: [{}] }
const unloaded = { status: 'failed', assertionResults: [] }

test.each([
  [{ success: true, numPassedTests: 3, numFailedTests: 0, testResults: [passed] }, '3 passed, 0 failed'],
  [{ success: false, numPassedTests: 2, numFailedTests: 1, testResults: [passed] }, '2 passed, 1 failed'],
  [{ success: false, numPassedTests: 2, numFailedTests: 0, testResults: [passed, unloaded] }, '2 passed, 1 failed'],
  [{ success: false, numPassedTests: 2, numFailedTests: 0, testResults: [passed] }, '2 passed, 1 failed'],
  [undefined, '0 passed, 1 failed'],
])('the count of %j is "%s"', (report, line) => {
  const folder = mkdtempSync(join(tmpdir(), 'corral-count-'))
  const path = join(folder, 'report.json')
  if (report !== undefined) writeFileSync(path, JSON.stringify(report))
  const output = execFileSync(process.execPath, [`${root}scripts/count.js`, path], { encoding: 'utf8' })
  rmSync(folder, { recursive: true })
  expect(output).toBe(`${line}\n`)
})
