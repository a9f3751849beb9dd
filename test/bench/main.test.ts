import { execFile, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { root, usesBuild } from '../_build.ts'
import { fixtureMark, fixtureProcesses, leavesNoProcess } from '../_processes.ts'

usesBuild()
leavesNoProcess()

const command = `${root}build/bench/main.js`
const env = { ...process.env, ...fixtureMark }

beforeAll(() => {
  execFileSync(process.execPath, [`${root}node_modules/typescript/bin/tsc`, '--project', 'bench/tsconfig.json'], {
    cwd: root,
  })
}, 60_000)

describe('npm run bench', () => {
  test('runs every section, and writes a table of each', { timeout: 180_000 }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'corral-bench-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const output = join(folder, 'RESULTS.md')
    await promisify(execFile)(process.execPath, [command, '--quick', '--no-peers', '--output', output], {
      cwd: root,
      env,
    })
    const results = readFileSync(output, 'utf8')
    const names = ['http', 'websocket', 'acquire', 'scale', 'cold-start', 'crash', 'memory', 'spawn']
    expect(results.match(/^## .+$/gm)).toEqual(names.map((name) => `## ${name}`))
    expect(results).not.toContain('NaN')
  })

  test.each(['SIGTERM', 'SIGKILL'] as const)(
    'leaves nothing behind when %s ends it',
    { timeout: 60_000 },
    async (signal) => {
      const child = spawn(process.execPath, [command, '--no-peers', 'http'], { cwd: root, env, stdio: 'ignore' })
      while (fixtureProcesses().length < 4) await delay(20)
      const exit = once(child, 'exit')
      child.kill(signal)
      await exit
      while (fixtureProcesses().length > 0) await delay(20)
    },
  )

  test('names the sections when one is asked for that there is not', async () => {
    const run = promisify(execFile)(process.execPath, [command, 'htpp'], { cwd: root, env })
    await expect(run).rejects.toMatchObject({ code: 2, stderr: expect.stringContaining('no section htpp') })
  })
})
