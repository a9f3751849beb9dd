/** `npm run test:deep -- --minutes N`: the property tests for so long, each half of it, with what they have seen. */
import { spawn } from 'node:child_process'
import { parseArgs } from 'node:util'

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '5' }, seed: { type: 'string' } } })
const minutes = Number(values.minutes)
if (!(minutes > 0 && minutes < 24 * 60)) {
  console.error(`test:deep: --minutes wants a number of minutes, got ${JSON.stringify(values.minutes)}`)
  process.exit(2)
}

const tests = ['test/property/pool.test.ts', 'test/property/interleavings.test.ts']
const env = {
  ...process.env,
  CORRAL_DEEP_MS: String((minutes / tests.length) * 60_000),
  ...(values.seed !== undefined && { CORRAL_SEED: values.seed }),
}
const run = spawn('npx', ['vitest', 'run', '--no-file-parallelism', ...tests], { env, stdio: 'inherit' })
run.on('exit', (code) => process.exit(code ?? 1))
