import { resolve } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { temporaryDirectory } from '../../../src/runtime/process/temporary.ts'

test.skipIf(process.platform === 'win32')('a directory for temporary files that is relative is resolved', () => {
  vi.stubEnv('TMPDIR', 'files')
  onTestFinished(() => void vi.unstubAllEnvs())
  expect(temporaryDirectory()).toBe(resolve('files'))
})
