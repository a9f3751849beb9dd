import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { root } from '../_build.ts'

test('every seeded defect still applies, and names tests that exist', () => {
  const { status, stderr } = spawnSync(process.execPath, ['scripts/defects.js', '--check'], {
    cwd: root,
    encoding: 'utf8',
  })
  expect(stderr).toBe('')
  expect(status).toBe(0)
})
