import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { describe, expect, test } from 'vitest'
import { isolated, levels, openPool, sh, stateDirectory, usesIsolation } from './_isolated.ts'

usesIsolation()

describe.runIf(process.platform === 'linux').each(levels)('at level %s a working directory', (level) => {
  test.each([
    ['by its path', 'v1', (base: string) => join(base, 'app', 'v1')],
    ['relative to that of the gateway', 'v1', (base: string) => relative(process.cwd(), join(base, 'app', 'v1'))],
    ['by a link', 'v1', (base: string) => join(base, 'current')],
    ['by a link and up from where that leads', 'v2', (base: string) => `${base}/current/../v2`],
  ])('%s is where the worker runs, and its command is looked for', async (_how, version, given) => {
    const base = stateDirectory()
    chmodSync(base, 0o755)
    for (const name of ['v1', 'v2']) {
      mkdirSync(join(base, 'app', name), { recursive: true })
      writeFileSync(join(base, 'app', name, 'version'), name)
      writeFileSync(join(base, 'app', name, 'run'), '#!/bin/sh\nexec "$@"', { mode: 0o755 })
    }
    symlinkSync(join(base, 'app', 'v1'), join(base, 'current'))
    const { command, args = [], ...options } = isolated(level)
    const { pool } = await openPool({ ...options, command: './run', args: [command, ...args], cwd: given(base) })
    using lease = await pool.acquire('red')
    expect(await sh(lease, 'cat version')).toMatchObject({ code: 0, output: version })
  })
})
