import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { createPool, processWorker } from 'corral'
import { usesBuild } from '../../../_build.ts'
import { fixture, leavesNoProcess } from '../../../_processes.ts'

usesBuild()
leavesNoProcess()

let stateDirectory: string

beforeEach(() => {
  stateDirectory = mkdtempSync(join(tmpdir(), 'state-'))
  mkdirSync(join(stateDirectory, 'own'))
  onTestFinished(() => rmSync(stateDirectory, { recursive: true }))
})

function open() {
  const worker = processWorker({ ...fixture('echo-server'), isolation: 'none', stateDirectory })
  return createPool({ worker, size: { min: 0, max: 1 } })
}

describe.runIf(process.platform !== 'win32')('a state directory', () => {
  const makeFile = (path: string) => writeFileSync(path, '')
  const makeLink = (path: string) => symlinkSync('/nowhere', path)

  test.each([
    ['own', 'a file', makeFile, 'EEXIST'],
    ['own', 'a link to nowhere', makeLink, 'EEXIST'],
    ['own/ledger', 'a file', makeFile, 'EEXIST'],
    ['own/output.1', 'a directory', mkdirSync, 'EISDIR'],
    ['w', 'a file', makeFile, 'EEXIST'],
    ['lock.1', 'a directory', mkdirSync, 'EISDIR'],
  ] as const)('of which %s is %s is refused each time, with its name', async (part, _kind, make, code) => {
    const path = join(stateDirectory, part)
    rmSync(path, { recursive: true, force: true })
    make(path)
    const got = `${stateDirectory}, with ${part} in the way (${code})`
    const message = expect.stringContaining(`expected a directory that can be written to, got ${got}`)
    await expect(open()).rejects.toMatchObject({ code: 'INVALID_OPTION', message })
    await expect(open()).rejects.toMatchObject({ code: 'INVALID_OPTION', message })
  })

  test.each(['lock.1', 'own/ledger/1.w1-aaaaaaab.json'])('of which %s is a pipe is taken', async (part) => {
    const path = join(stateDirectory, part)
    mkdirSync(join(stateDirectory, 'own/ledger'))
    execFileSync('mkfifo', [path])
    const pool = await open()
    await pool.close()
    expect(existsSync(path)).toBe(false)
  })
})
