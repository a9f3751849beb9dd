import { basename, relative } from 'node:path'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'
import base from './vitest.config.ts'

const slotTests = 'runtime/{broken,crash,liveness,minimal-backend,recycle,reset-path,reuse,start,unwanted}'
const poolTests =
  '{machines/{pool,pool-limits},model/{loads,pool},runtime/{acquire,breaker,drain,drain-worker,pressure,sizing,start,tenants}}'

const workerTests =
  '{machines/{worker,worker-limits},model/{loads,worker},runtime/{crash,liveness,recycle,reuse,reset-path,start}}'

/** Tests on fake workers and virtual time, by the name of the file that they bear on most. */
const testsOf: Readonly<Record<string, string>> = {
  failure: 'machines/failure',
  pool: poolTests,
  'pool-context': poolTests,
  session: '{machines/{session,session-closing},model/session}',
  sizing: '{machines,property}/sizing',
  slots: '{machines/{slots,pool},model/pool,runtime/{crash,drain-worker}}',
  'sorted-list': '{machines,property}/wait-queue',
  'wait-queue': '{machines,property}/wait-queue',
  worker: workerTests,
  'worker-context': workerTests,
  'actor-pool': 'runtime/*',
  listing: 'runtime/listing',
  'live-sessions': 'runtime/{acquire,age,broken,crash,drain,end,idle,lease,listing,tenants}',
  pressure: 'runtime/pressure',
  'session-record': 'runtime/{acquire,age,crash,end,idle,idle-list,lease,listing}',
  slot: slotTests,
  sweeper: 'runtime/{age,end,idle,idle-again,idle-list,lease}',
  'tenant-ledger': 'runtime/tenants',
  'wait-list': 'runtime/{acquire,end,tenants}',
  wear: 'runtime/recycle',
  'worker-actors': slotTests,
  'worker-drains': 'runtime/{broken,drain,drain-worker}',
}

/** The one file that is mutated, maybe from one line to another; see stryker.config.js. */
const mutated = basename(process.env['CORRAL_MUTATED'] ?? '').replace(/\.ts(:.*)?$/u, '')

/**
 * The first test that fails ends the run, and what killed a mutant before likely kills the next, which is of the same file.
 * So what failed when it ran last comes first; and, as the folders happen to be named, what loads less before what loads
 * more.
 */
class LikelyKillersFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const nameOf = ({ moduleId }: TestSpecification) => relative(this.ctx.config.root, moduleId)
    const hasFailed = (file: TestSpecification) =>
      this.ctx.cache.getFileTestResults(`${file.project.name}:${nameOf(file)}`)?.failed === true
    return files.toSorted((a, b) => Number(hasFailed(b)) - Number(hasFailed(a)) || nameOf(a).localeCompare(nameOf(b)))
  }
}

/**
 * The tests that Stryker runs for every mutant: of one file those that bear on it, else all on fake workers and virtual
 * time. Fewer tests can only score lower. See docs/testing.md.
 */
export default defineConfig({
  ...base,
  test: {
    ...base.test,
    include: [`test/${testsOf[mutated] ?? '{{machines,model,runtime}/*,property/{sizing,wait-queue}}'}.test.ts`],
    exclude: ['test/model/system-runtime.test.ts', 'test/runtime/{http-client,options,validate}.test.ts'],
    runner: 'test/support/mutation-runner.ts',
    passWithNoTests: true,
    testTimeout: 10_000,
    // One thread and one load of the modules for each mutant, not for each file.
    isolate: false,
    sequence: { sequencer: LikelyKillersFirst },
  },
})
