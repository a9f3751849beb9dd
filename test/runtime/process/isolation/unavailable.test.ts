import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { isolated, openPool, sh, stateDirectory, usesIsolation } from './_isolated.ts'

usesIsolation()
afterEach(() => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
})

describe.runIf(process.platform === 'linux')('on a machine without bubblewrap', () => {
  function removeTools(): void {
    const programs = stateDirectory()
    symlinkSync('/usr/bin/true', join(programs, 'true'))
    vi.stubEnv('PATH', programs)
  }

  test.each(['namespaces', 'full'] as const)(
    'level %s is refused, with the probe that failed and the way out',
    async (level) => {
      removeTools()
      await expect(openPool(isolated(level))).rejects.toMatchObject({
        code: 'SANDBOX_UNAVAILABLE',
        wanted: `isolation "${level}"`,
        probe: `level ${level}`,
        message: expect.stringMatching(/bwrap is not in PATH.* apt-get install bubblewrap/) as string,
      })
    },
  )

  test('what can be had of it is had on request, and what is missing is told by warnings and stats', async () => {
    removeTools()
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
    const limits = { files: 100, disk: 4096 }
    const { pool } = await openPool(
      isolated('full', { limits, onUnavailable: 'degrade', env: { PATH: '/usr/bin:/bin' } }),
    )
    using lease = await pool.acquire('red')
    expect(await sh(lease, 'ulimit -n')).toMatchObject({ output: '100\n' })
    const missing = ['isolation "full"', 'isolation "namespaces"', 'isolation.network "none"', 'limits.disk']
    expect(pool.stats().isolation).toEqual({ level: 'group', missing })
    expect(warn.mock.calls.map(([text]) => String(text))).toEqual(
      missing.map((wanted) => expect.stringContaining(`${wanted} is not to be had`) as string),
    )
  })
})
