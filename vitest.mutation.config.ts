import { relative } from 'node:path'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'
import base from './vitest.config.ts'

/**
 * The first test that fails ends the run, and what killed the mutant before likely kills the next, which is of the same
 * file: what failed when it ran last comes first, then what is quick.
 */
class LikelyKillersFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId, project }: TestSpecification) => {
      const last = this.ctx.cache.getFileTestResults(`${project.name}:${relative(this.ctx.config.root, moduleId)}`)
      return last?.failed ? -1 : (last?.duration ?? 0)
    }
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
    testTimeout: 10_000,
    // One thread and one load of the modules for each mutant, not for each file.
    isolate: false,
    sequence: { sequencer: LikelyKillersFirst },
  },
})
