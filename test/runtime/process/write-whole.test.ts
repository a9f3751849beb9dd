import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { writeWhole } from '../../../src/runtime/process/write-whole.ts'

function makeDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'write-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  return directory
}

test('a file is written for this user alone', async () => {
  const path = join(makeDirectory(), 'file')
  await writeWhole(path, 'text')
  expect(readFileSync(path, 'utf8')).toBe('text')
  expect(statSync(path).mode & 0o777).toBe(0o600)
})

test('one that cannot be opened is named once', async () => {
  const path = join(makeDirectory(), 'no', 'file')
  await expect(writeWhole(path, '')).rejects.toThrow(`ENOENT: no such file or directory, open '${path}'`)
})

test.runIf(process.platform === 'linux' && process.geteuid?.() === 0)(
  'one for which there is no room is named, and nothing of it stays',
  async () => {
    const directory = makeDirectory()
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'none', directory])
    onTestFinished(() => void execFileSync('umount', [directory]))
    expect(() => writeFileSync(join(directory, 'large'), 'x'.repeat(32_768))).toThrow('ENOSPC')
    const path = join(directory, 'file')
    await expect(writeWhole(path, 'text')).rejects.toMatchObject({
      code: 'ENOSPC',
      path,
      message: `ENOSPC: no space left on device, write "${path}"`,
    })
    expect(readdirSync(directory)).toEqual(['large'])
  },
)
