import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'
import base from './vitest.config.ts'

/** Those that are quick and kill most mutants. */
const first = /\/test\/(machines|model)\//

/** The first test that fails ends the run. */
class QuickFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => (first.test(moduleId) ? 0 : 1)
    return files.toSorted((a, b) => rank(a) - rank(b))
  }
}

/** The tests that Stryker runs for every mutant: those on fake workers and virtual time. See docs/testing.md. */
export default defineConfig({
  ...base,
  test: {
    ...base.test,
    include: ['test/{machines,model,runtime}/*.test.ts', 'test/property/{sizing,wait-queue}.test.ts'],
    exclude: ['test/model/system-runtime.test.ts', 'test/runtime/{http-client,options,validate}.test.ts'],
    testTimeout: 5_000,
    // A file costs less without a thread of its own; its modules are still loaded anew.
    isolate: false,
    setupFiles: ['test/support/fresh-modules.ts'],
    sequence: { sequencer: QuickFirst },
  },
})
