import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { closeStateDirectory, openStateDirectory } from '../../../../src/runtime/process/state/state-directory.ts'

test.skipIf(process.platform === 'win32').each([
  ['up from where a link leads', 'link/../state', 'other/state'],
  ['by a step in place', 'state/.', 'state'],
  ['with a slash behind it', 'state//', 'state'],
])('a state directory that is named %s is the one that the system finds there', async (_how, named, expected) => {
  const base = realpathSync(mkdtempSync(join(tmpdir(), 'named-')))
  onTestFinished(() => rmSync(base, { recursive: true }))
  mkdirSync(join(base, 'other', 'w'), { recursive: true })
  symlinkSync(join(base, 'other', 'w'), join(base, 'link'))
  const state = await openStateDirectory(`${base}/${named}`)
  expect(state.path).toBe(join(base, expected))
  await closeStateDirectory(state)
})
