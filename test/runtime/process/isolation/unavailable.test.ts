import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { IsolationLevel } from 'corral'
import { root } from '../../../_build.ts'
import type { Limits } from '../../../../src/runtime/process/isolation/options.ts'
import { prepareSandbox } from '../../../../src/runtime/process/isolation/sandbox.ts'
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

test.runIf(process.platform !== 'win32')(
  'a limit on open files under which nothing runs is told as too low',
  async () => {
    await expect(openPool(isolated('none', { limits: { files: 1 } }))).rejects.toMatchObject({
      wanted: 'limits.files',
      message: expect.stringMatching(/not even true runs with 1 open files.*ask for more/) as string,
    })
  },
)

test.runIf(process.platform === 'linux')('a bind that is not there is refused before a worker starts', async () => {
  const isolation = { level: 'full', binds: ['/nowhere'] } as const
  await expect(openPool({ ...isolated('full'), isolation })).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    option: 'isolation.binds',
    message: expect.stringContaining('/nowhere, which is not there') as string,
  })
})

test.runIf(process.platform === 'linux' && process.geteuid?.() === 0)(
  'a limit on the directory of a worker with a socket is refused where root may not see into other processes',
  () => {
    const script = `
      import { createPool, processWorker } from '${root}/dist/index.js'
      const open = async (address) => {
        const worker = processWorker({ command: 'node', args: [address], isolation: 'full', limits: { disk: 1 << 20 } })
        const pool = await createPool({ worker, size: { min: 0 } })
        await pool.close()
        return 'open'
      }
      const describe = ({ wanted, probe, message }) => ({ wanted, probe, message })
      const outcomes = [await open('{{socket}}').catch(describe), await open('{{port}}').catch(describe)]
      console.log(JSON.stringify(outcomes))`
    const without = ['--bounding-set', '-sys_ptrace', '--inh-caps', '-sys_ptrace', '--']
    const command = [...without, process.execPath, '--input-type=module', '-e', script]
    expect(JSON.parse(execFileSync('setpriv', command, { encoding: 'utf8' }))).toEqual([
      {
        wanted: 'limits.disk',
        probe: 'limit disk',
        message: expect.stringMatching(
          /could not be reached in it: EACCES.* let this process see into others/,
        ) as string,
      },
      'open',
    ])
  },
)

describe.runIf(process.platform === 'linux' && process.geteuid?.() === 0)('for a root', () => {
  const script = `
    import { createPool, diagnose, processWorker } from '${root}/dist/index.js'
    const open = (onUnavailable) =>
      createPool({ worker: processWorker({ command: 'node', isolation: 'full', onUnavailable }), size: { min: 0 } })
    const refusal = await open('fail').catch(({ code, probe, message }) => ({ code, probe, message }))
    const pool = await open('degrade')
    await pool.close()
    const found = (await diagnose()).find(({ probe }) => probe === 'level full')
    console.log(JSON.stringify({ refusal, isolation: pool.stats().isolation, found }))`
  const command = [process.execPath, '--input-type=module', '-e', script]

  const refusedFor = (detail: string, fix: RegExp) => ({
    refusal: {
      code: 'SANDBOX_UNAVAILABLE',
      probe: 'level full',
      message: expect.stringMatching(new RegExp(`${detail}.* To mend it, ${fix.source}`)) as string,
    },
    isolation: { level: 'namespaces', missing: ['isolation "full"'] },
    found: {
      probe: 'level full',
      status: 'unavailable',
      detail: expect.stringContaining(detail) as string,
      fix: expect.stringMatching(fix) as string,
    },
  })

  test.each([
    ['none of the users of workers', 1, 'user 66000 cannot be given a directory'],
    ['a part of the users of workers', 70_000, 'user 99999 cannot be given a directory'],
  ])('of a user namespace that has %s, level full is refused, with the users to map', async (_, count, detail) => {
    const waiting = ['--user', 'sh', '-c', 'echo up; read go; exec "$@"', 'sh']
    const child = spawn('unshare', [...waiting, ...command], { stdio: ['pipe', 'pipe', 'ignore'] })
    await once(child.stdout, 'readable')
    expect(String(child.stdout.read())).toBe('up\n')
    for (const map of ['uid_map', 'gid_map']) writeFileSync(`/proc/${child.pid}/${map}`, `0 0 ${count}`)
    child.stdin.end('go\n')
    expect(JSON.parse(await text(child.stdout))).toEqual(refusedFor(detail, /map the users and groups 66000 to 99999/))
  })

  test.each([
    ['chown', 'user 66000 cannot be given a directory'],
    ['dac_override', 'user 66000 cannot be given a directory'],
    ['setuid', 'no process can become user 66000'],
    ['setgid', 'no process can become user 66000'],
  ])('without the capability %s, level full is refused, with those that it needs', (capability, detail) => {
    const without = ['--bounding-set', `-${capability}`, '--inh-caps', `-${capability}`, '--']
    const outcome = execFileSync('setpriv', [...without, ...command], { encoding: 'utf8', stdio: 'pipe' })
    expect(JSON.parse(outcome)).toEqual(refusedFor(detail, /give this process .*CAP_CHOWN.*CAP_SETUID.*CAP_SETGID/))
  })
})

describe.each(['darwin', 'win32'] as const)('on %s', (platform) => {
  beforeEach(() => {
    const original = Object.getOwnPropertyDescriptor(process, 'platform')!
    Object.defineProperty(process, 'platform', { ...original, value: platform })
    return () => Object.defineProperty(process, 'platform', original)
  })

  const prepare = (level: IsolationLevel, limits: Limits = {}) =>
    prepareSandbox(
      { isolation: { level, network: 'host', binds: [] }, limits, onUnavailable: 'fail', uses: new Set() },
      {},
    )

  test.each(['none', 'group'] as const)('level %s is there', async (level) => {
    expect(await prepare(level)).toMatchObject({ level, cgroups: undefined, missing: [] })
  })

  test.each(['namespaces', 'full'] as const)('level %s is refused, naming the one to use', async (level) => {
    await expect(prepare(level)).rejects.toMatchObject({
      code: 'SANDBOX_UNAVAILABLE',
      message: expect.stringContaining(`use level "group" on ${platform}`) as string,
    })
  })

  test.each([{ memory: 2 ** 28 }, { cpu: 1 }, { pids: 10 }])('the limit %o is refused', async (limits) => {
    await expect(prepare('group', limits)).rejects.toMatchObject({ code: 'SANDBOX_UNAVAILABLE' })
  })
})
