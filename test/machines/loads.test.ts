import { expect, test } from 'vitest'

// A file that cannot be loaded has no tests that could fail, and Stryker counts tests.
test('a chart that contradicts itself fails a test, not only the files that import it', async () => {
  expect(Object.keys(await import('corral/machines'))).toContain('poolMachine')
})
