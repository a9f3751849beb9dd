/** Prints `N passed, M failed` from a vitest JSON report: `node scripts/count.js report.json`. */
import { readFileSync } from 'node:fs'

const [report = ''] = process.argv.slice(2)
console.log(count(report))

/** A suite that could not even be loaded has no tests to count: it counts as one failure, and so does a missing report. */
function count(/** @type {string} */ path) {
  let result
  try {
    result = JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return '0 passed, 1 failed'
  }
  const unloaded = result.testResults.filter(
    (/** @type {{ status: string, assertionResults: unknown[] }} */ suite) =>
      suite.status === 'failed' && suite.assertionResults.length === 0,
  )
  const failed = result.numFailedTests + unloaded.length
  return `${result.numPassedTests} passed, ${failed === 0 && !result.success ? 1 : failed} failed`
}
