import { parseArgs } from 'node:util'

const { values } = parseArgs({ options: { mutate: { type: 'string', short: 'm' } }, strict: false })
// For vitest.mutation.config.ts, which is read in processes that Stryker starts.
process.env.CORRAL_MUTATED = typeof values.mutate === 'string' ? values.mutate : ''

/** @type {import('@stryker-mutator/api/core').PartialStrykerOptions} */
export default {
  testRunner: 'vitest',
  vitest: { configFile: 'vitest.mutation.config.ts', related: false },
  coverageAnalysis: 'perTest',
  mutate: [
    'src/machines/**/*.ts',
    'src/runtime/{session-record,sweeper,wait-list,tenant-ledger,pressure,slot,listing,live-sessions,actor-pool,worker-drains,worker-actors,wear}.ts',
  ],
  mutator: { excludedMutations: ['StringLiteral'] },
  concurrency: 2,
  timeoutMS: 10_000,
  warnings: { slow: false },
  tsconfigFile: 'none',
  ignorePatterns: ['.ci', 'build', 'docs', 'examples', 'test/adapters', 'test/chaos', 'test/e2e'],
  tempDirName: 'build/stryker',
  incremental: true,
  incrementalFile: 'build/stryker-incremental.json',
  reporters: ['clear-text', 'json', 'progress-append-only'],
  jsonReporter: { fileName: 'build/mutation.json' },
  clearTextReporter: { allowColor: false, logTests: false },
}
