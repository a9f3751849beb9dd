import { afterAll, expect, test, vi } from 'vitest'

// A file that cannot be loaded has no tests that could fail, and Stryker counts tests. It also has to see that modules
// are loaded outside of any test: those that share them with this file load them again.
afterAll(() => {
  vi.resetModules()
})

test('a chart that contradicts itself fails a test, not only the files that import it', async () => {
  expect(Object.keys(await import('corral/machines'))).toContain('poolMachine')
})

test('so does a chart whose exploration fails or never ends', async () => {
  const [{ workerWalks }, { poolWalks }] = await Promise.all([import('./_worker.ts'), import('./_pool.ts')])
  expect(Math.min(workerWalks.length, poolWalks.length)).toBeGreaterThan(0)
})
