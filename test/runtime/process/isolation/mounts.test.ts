import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { checkBinds, isBare, planMounts, type MountRequest } from '../../../../src/runtime/process/isolation/mounts.ts'
import type { Bind, IsolationOptions } from '../../../../src/runtime/process/isolation/options.ts'
import { isolated, openPool, sh, stateDirectory, usesIsolation } from './_isolated.ts'

usesIsolation()

let directory: string
let state: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'mounts-'))
  state = join(directory, 'above', 'state')
  mkdirSync(state, { recursive: true })
})

afterEach(() => rmSync(directory, { recursive: true }))

const bind = (source: string, target = source, access: Bind['access'] = 'read-only'): Bind => ({
  source,
  target,
  access,
})

const rw = (path: string) => bind(path, path, 'read-write')

function linkTo(path: string): string {
  const link = join(directory, 'link')
  symlinkSync(path, link)
  return link
}

/** What is mounted, in order. */
function plan(binds: readonly Bind[], { cwd, supervisor }: { cwd?: string; supervisor?: string } = {}): string[] {
  return planMounts({ binds, cwd, supervisor }).map((mount) =>
    mount.type === 'bind' ? `${mount.bind.target} ${mount.bind.access}` : `${mount.target} ${mount.purpose}`,
  )
}

const of = (mounts: readonly string[], ...paths: string[]) =>
  mounts.filter((mount) => paths.includes(mount.split(' ')[0]!))

describe.runIf(process.platform === 'linux')('what a worker sees', () => {
  test.each(['/home', '/root', '/run', '/mnt', '/media', '/var/tmp', '/tmp'])(
    '%s is hidden, unless it is bound',
    (path) => {
      expect(of(plan([]), path)).toEqual([`${path} ${path === '/tmp' ? 'scratch' : 'hidden'}`])
      expect(of(plan([bind(path, `${path}/`, 'read-write')]), path)).toEqual([`${path} read-write`])
    },
  )

  test('of two paths the more specific one counts', () => {
    const paths = ['/var', '/var/tmp', '/var/tmp/a', '/home', '/home/b']
    expect(of(plan([bind('/var/tmp/a'), bind('/home/b'), bind('/var')]), ...paths)).toEqual([
      '/home hidden',
      '/var read-only',
      '/var/tmp hidden',
      '/home/b read-only',
      '/var/tmp/a read-only',
    ])
  })

  test('nothing is made in a directory that is bound over one with hidden ones', () => {
    expect(of(plan([bind(directory, '/var')]), '/var', '/var/tmp')).toEqual(['/var read-only'])
    mkdirSync(join(directory, 'tmp'))
    expect(of(plan([bind(directory, '/var')]), '/var', '/var/tmp')).toEqual(['/var read-only', '/var/tmp hidden'])
  })

  test('the state directory comes last, under every name that a bind gives it', () => {
    const link = join(directory, 'link')
    symlinkSync(join(directory, 'above'), link)
    const binds = [bind(directory), bind(dirname(state), '/data', 'read-write'), bind(link, '/other')]
    const hidden = plan(binds, { supervisor: state }).slice(-3)
    expect(hidden).toEqual([`${state} hidden`, '/data/state hidden', '/other/state hidden'])
  })

  test('a working directory takes no right from a bind, and is seen where it is hidden', () => {
    expect(of(plan([rw('/srv/app')], { cwd: '/srv/app' }), '/srv/app')).toEqual(['/srv/app read-write'])
    expect(of(plan([rw('/srv')], { cwd: '/srv/app' }), '/srv/app')).toEqual([])
    expect(of(plan([rw('/var')], { cwd: '/var/tmp/a' }), '/var/tmp/a')).toEqual(['/var/tmp/a read-only'])
    expect(of(plan([], { cwd: '/home/a' }), '/home/a')).toEqual(['/home/a read-only'])
  })
})

describe('a bind is refused', () => {
  test.each([
    ['of the state directory', () => bind(state)],
    ['of something in it', () => bind(join(state, 'own', 'ledger'), '/mnt')],
    ['to a place in it', () => bind('/opt', join(state, 'w'))],
    [
      'of it by a link',
      () => {
        symlinkSync(state, join(directory, 'link'))
        return bind(join(directory, 'link'), '/mnt')
      },
    ],
  ])('%s', (_, make) => {
    expect(() => checkBinds([make()], state)).toThrow(
      expect.objectContaining({
        code: 'INVALID_OPTION',
        option: 'isolation.binds',
        message: expect.stringContaining(`expected paths outside of the state directory ${state}`) as string,
      }),
    )
  })

  test('that would leave the state directory no place', () => {
    expect(() => checkBinds([bind('/opt', directory)], state)).toThrow('expected targets that do not cover')
  })

  test.each([
    ['that has the state directory deeper in it', () => [rw(directory)], 'paths that may be read only'],
    ['the same by a link', () => [rw(linkTo(directory))], 'paths that may be read only'],
    ['that has another deeper in it', () => [bind('/opt/a/b/c'), rw('/opt/a')], 'no path that lies deeper in /opt/a'],
  ])('that workers may write to, and %s', (_, make, expected) => {
    expect(() => checkBinds(make(), state)).toThrow(expected)
  })

  test('and not where it is above the state directory and may only be read, or is directly above, or beside it', () => {
    const beside = `${state}-2`
    mkdirSync(beside)
    checkBinds([bind(directory), bind(dirname(state), '/mnt', 'read-write'), rw(beside)], state)
    checkBinds([bind('/opt/a/b'), rw('/opt/a')], state)
  })
})

describe.runIf(process.platform === 'linux')('the state directory is bare', () => {
  test.each<[string, boolean, () => Partial<MountRequest>]>([
    ['where everybody sees what is around it', true, () => ({ supervisor: '/var/lib/corral' })],
    ['and not where that is hidden', false, () => ({ supervisor: '/home/corral/state' })],
    ['below a bind', true, () => ({ binds: [bind('/home/corral')], supervisor: '/home/corral/state' })],
    [
      'below a bind to another place',
      true,
      () => ({ binds: [bind('/home', '/data')], supervisor: '/home/corral/state' }),
    ],
    [
      'and not where what is hidden lies in the bind',
      false,
      () => ({ binds: [bind('/var')], supervisor: '/var/tmp/state' }),
    ],
    ['below the working directory', true, () => ({ cwd: '/home/corral', supervisor: '/home/corral/state' })],
    ['below the working directory, by a link', true, () => ({ cwd: linkTo(dirname(state)), supervisor: state })],
  ])('%s: %s', (_, bare, request) => {
    expect(isBare({ binds: [], cwd: undefined, supervisor: undefined, ...request() })).toBe(bare)
  })
})

describe.runIf(process.platform === 'linux')('at level full', () => {
  test('a pool with a bind in its state directory is refused, and leaves the directory to others', async () => {
    const stateOf = stateDirectory()
    const isolation = { level: 'full', binds: [join(stateOf, 'w')] } as const
    mkdirSync(join(stateOf, 'own'), { recursive: true })
    mkdirSync(join(stateOf, 'w'))
    await expect(openPool({ command: 'node', isolation, stateDirectory: stateOf })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      option: 'isolation.binds',
    })
    await openPool(isolated('full', { stateDirectory: stateOf }))
  })

  test.each(['/mnt', '/home', '/run', '/media', '/var/tmp', '/var'].filter((path) => existsSync(path)))(
    '%s is writable when it is bound to be',
    async (path) => {
      const { isolation, ...options } = isolated('full')
      const { binds = [] } = isolation as IsolationOptions
      const source = { source: path, access: 'read-write' } as const
      const { pool } = await openPool({ ...options, isolation: { level: 'full', binds: [...binds, source] } })
      using lease = await pool.acquire('red')
      const { output } = await sh(
        lease,
        `awk '$5 == "${path}" { print substr($6, 1, 2) }' /proc/self/mountinfo | tail -n 1`,
      )
      expect(output).toBe('rw\n')
    },
  )
})
