import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { temporaryDirectory } from '../../../src/runtime/process/temporary.ts'

test.skipIf(process.platform === 'win32')('a directory for temporary files that is relative is resolved', () => {
  vi.stubEnv('TMPDIR', 'files')
  onTestFinished(() => void vi.unstubAllEnvs())
  expect(temporaryDirectory()).toBe(resolve('files'))
})

test.skipIf(process.platform === 'win32')('one up from where a link leads is where the system finds it', () => {
  const base = realpathSync(mkdtempSync(join(tmpdir(), 'temporary-')))
  mkdirSync(join(base, 'a', 'b'), { recursive: true })
  symlinkSync('a/b', join(base, 'link'))
  vi.stubEnv('TMPDIR', `${base}/link/../files`)
  onTestFinished(() => {
    vi.unstubAllEnvs()
    rmSync(base, { recursive: true })
  })
  expect(temporaryDirectory()).toBe(join(base, 'a', 'files'))
})
