import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import type { MountRequest } from '../../../../src/runtime/process/isolation/mounts.ts'
import { Sight, type View } from '../../../../src/runtime/process/isolation/sight.ts'
import type { Bind, IsolationOptions } from '../../../../src/runtime/process/isolation/options.ts'
import { root } from '../../../_build.ts'
import { fixturePath } from '../../../_processes.ts'
import { isolated, openPool, sh, stateDirectory, usesIsolation } from './_isolated.ts'

usesIsolation()

let directory: string
let state: string
let area: string
let other: string
let temporary: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'mounts-'))
  state = join(directory, 'above', 'state')
  area = join(directory, 'area')
  other = join(directory, 'other')
  temporary = join(directory, 'temporary')
  mkdirSync(state, { recursive: true })
})

afterEach(() => rmSync(directory, { recursive: true }))

const bind = (source: string, target = source, access: Bind['access'] = 'read-only'): Bind => ({
  source,
  target,
  access,
})

const rw = (path: string) => bind(path, path, 'read-write')

function linkTo(path: string, link = join(directory, 'link')): string {
  rmSync(link, { force: true })
  symlinkSync(path, link)
  return link
}

function sightOf(request: Partial<MountRequest>): Sight {
  return new Sight({ binds: [], cwd: undefined, supervisor: undefined, temporary, ...request })
}

/** For a worker that runs as long as the test. */
function open(sight: Sight): View {
  const view = sight.open()
  onTestFinished(() => view.hold.releaseNow())
  return view
}

function check(binds: readonly Bind[], cwd?: string): void {
  sightOf({ binds, cwd, supervisor: state }).open().hold.releaseNow()
}

/** What is mounted, in order. */
function plan(binds: readonly Bind[], { cwd, supervisor }: { cwd?: string; supervisor?: string } = {}): string[] {
  return open(sightOf({ binds, cwd, supervisor })).mounts.map((mount) =>
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

  test('of two paths, one of them by a link, it is the more specific one by where that leads, in any order', () => {
    mkdirSync(join(area, 'releases', '1'), { recursive: true })
    linkTo('releases/1', join(area, 'current'))
    const seen = bind(area, '/srv')
    const [link, releases] = [bind(other, '/srv/current', 'read-write'), bind('/usr', '/srv/releases')]
    const expected = ['/srv/releases read-only', '/srv/releases/1 read-write']
    expect(plan([seen, link, releases]).slice(-2)).toEqual(expected)
    expect(plan([releases, link, seen]).slice(-2)).toEqual(expected)
  })

  test('nothing is made in a directory that is bound over one with hidden ones', () => {
    expect(of(plan([bind(directory, '/var')]), '/var', '/var/tmp')).toEqual(['/var read-only'])
    mkdirSync(join(directory, 'tmp'))
    expect(of(plan([bind(directory, '/var')]), '/var', '/var/tmp')).toEqual(['/var read-only', '/var/tmp hidden'])
  })

  test('the state directory comes last, under every name that a bind gives it', () => {
    const link = linkTo(join(directory, 'above'))
    const binds = [bind(directory), bind(dirname(state), '/data'), bind(link, '/other')]
    const hidden = plan(binds, { supervisor: state }).slice(-3)
    expect(hidden).toEqual([`${state} hidden`, '/data/state hidden', '/other/state hidden'])
  })

  test('a path that leads through links is mounted where it leads, as far as a worker sees that', () => {
    mkdirSync(join(area, 'a'), { recursive: true })
    linkTo('/opt', join(area, 'absolute'))
    linkTo('a', join(area, 'relative'))
    const targets = (...binds: Bind[]) => plan(binds).map((mount) => mount.split(' ')[0])
    const seen = bind(area, '/srv/area')
    expect(targets(seen, bind('/usr', '/srv/area/absolute/b'))).toContain('/opt/b')
    expect(targets(seen, bind('/usr', '/srv/area/relative/b'))).toContain('/srv/area/a/b')
    // Where it is hidden there is none.
    expect(targets(bind('/usr', join(area, 'absolute', 'b')))).toContain(join(area, 'absolute', 'b'))
    const { mounts } = open(sightOf({ binds: [bind(join(area, 'relative'), '/b')] }))
    expect(mounts).toContainEqual({ type: 'bind', bind: bind(join(area, 'a'), '/b') })
  })

  test('what is hidden is no link that a worker may have made', () => {
    mkdirSync(area)
    linkTo('../etc', join(area, 'tmp'))
    expect(of(plan([bind(area, '/var', 'read-write')]), '/var/tmp', '/etc')).toEqual([])
    expect(of(plan([bind(area, '/var')]), '/var/tmp', '/etc')).toEqual(['/etc hidden'])
    linkTo('../tmp', join(area, 'tmp'))
    expect(of(plan([bind(area, '/var')]), '/var/tmp', '/tmp')).toEqual(['/tmp scratch'])
  })

  test('a working directory takes no right from a bind, and is seen where it is hidden', () => {
    expect(of(plan([rw('/srv/app')], { cwd: '/srv/app' }), '/srv/app')).toEqual(['/srv/app read-write'])
    expect(of(plan([rw('/srv')], { cwd: '/srv/app' }), '/srv/app')).toEqual([])
    expect(of(plan([bind('/var')], { cwd: '/var/tmp/a' }), '/var/tmp/a')).toEqual(['/var/tmp/a read-only'])
    expect(of(plan([], { cwd: '/home/a' }), '/home/a')).toEqual(['/home/a read-only'])
    expect(of(plan([], { cwd: '/dev/shm/a' }), '/dev/shm/a')).toEqual(['/dev/shm/a read-only'])
  })
})

describe('a bind is refused', () => {
  test.each([
    ['of the state directory', () => bind(state)],
    ['of something in it', () => bind(join(state, 'own', 'ledger'), '/mnt')],
    ['to a place in it', () => bind('/opt', join(state, 'w'))],
    ['of it by a link', () => bind(linkTo(state), '/mnt')],
  ])('%s', (_, make) => {
    expect(() => check([make()])).toThrow(
      expect.objectContaining({
        code: 'INVALID_OPTION',
        option: 'isolation.binds',
        message: expect.stringContaining(`expected paths outside of the state directory ${state}`) as string,
      }),
    )
  })

  test('that would leave the state directory no place', () => {
    expect(() => check([bind('/opt', directory)])).toThrow('expected targets that do not cover')
  })

  test('that workers may write to, with the state directory in it', () => {
    temporary = '/nowhere'
    for (const holder of [directory, linkTo(directory), dirname(state), state]) {
      expect(() => check([rw(holder)])).toThrow(
        `paths that do not hold the state directory ${state}, or may only be read`,
      )
    }
  })

  test('that workers may write to, with the directory for temporary files in it', () => {
    temporary = join(area, 'a', 'temporary')
    mkdirSync(temporary, { recursive: true })
    for (const holder of [area, join(area, 'a'), temporary, linkTo(temporary)]) {
      expect(() => check([bind(holder, '/srv', 'read-write')])).toThrow(
        `paths that do not hold ${temporary}, where a start looks for what dead gateways have left, or may only be read`,
      )
    }
    mkdirSync(join(temporary, 'b'))
    check([rw(join(temporary, 'b'))])
  })

  test.each<[string, () => Bind]>([
    ['that lies in it', () => bind(join(area, 'a'))],
    ['that lies deeper in it', () => bind(join(area, 'a', 'b'), '/opt')],
    ['that is not there, in it', () => bind(join(area, 'none'), '/opt')],
    ['by a link into it', () => bind(linkTo(join(area, 'a')))],
    ['that is a link in it', () => bind(linkTo('/usr', join(area, 'link')), '/opt')],
    [
      'by links of which one lies in it',
      () => {
        linkTo('/usr', join(area, 'a', 'link'))
        return bind(linkTo(join(area, 'a', 'link')), '/opt')
      },
    ],
    ['by a link of which a part leads through it', () => bind(linkTo(`${area}/a/../../../usr`), '/opt')],
    ['by a link and the directory above where that leads', () => bind(`${linkTo(join(area, 'a'))}/../b`, '/opt')],
    ['that goes to a place in it', () => bind('/usr', join(area, 'a', 'b'))],
    ['that goes to where it is seen', () => bind('/usr', '/srv/area/a')],
    [
      'that goes there by a link in another one',
      () => {
        linkTo('../../srv/area/a', join(other, 'link'))
        return bind('/usr', '/opt/other/link/b')
      },
    ],
  ])('beside one that workers may write to: %s', (_, make) => {
    mkdirSync(join(area, 'a'), { recursive: true })
    mkdirSync(other)
    const made = make()
    const around = [bind(directory), bind(other, '/opt/other')]
    expect(() => check([...around, bind(area, '/srv/area', 'read-write'), made])).toThrow(
      `a path that does not lead through ${area}, where workers could have it lead elsewhere`,
    )
    check([...around, bind(area, '/srv/area'), made])
  })

  test('and not where it is above the state directory and may only be read, or is beside it', () => {
    const beside = `${state}-2`
    mkdirSync(beside)
    check([bind(directory), rw(beside)])
    check([
      bind(linkTo(directory)),
      bind(linkTo(join(directory, 'circle'), join(directory, 'circle')), '/opt'),
      rw(beside),
    ])
  })
})

describe('what workers may write to', () => {
  const mayNot = 'a path that does not lead through'

  const sightWith = (...binds: Bind[]) => sightOf({ binds, supervisor: state })

  test('counts while one of them runs, whatever leads there by then', () => {
    for (const release of ['r1', 'r2', 'r3']) mkdirSync(join(directory, release, 'lib'), { recursive: true })
    const [current, previous] = [linkTo('r2', join(directory, 'current')), linkTo('r1', join(directory, 'previous'))]
    const sight = sightWith(bind(current, '/srv/app', 'read-write'), bind(join(previous, 'lib'), '/srv/lib'))
    const first = sight.open()
    linkTo('r3', current)
    open(sight)
    linkTo('r2', previous)
    expect(() => sight.open()).toThrow(mayNot)
    first.hold.releaseNow()
    open(sight)
  })

  test('counts under a new name, too', () => {
    mkdirSync(join(area, 'lib'), { recursive: true })
    mkdirSync(join(other, 'lib'), { recursive: true })
    const sight = sightWith(bind(area, '/srv/area', 'read-write'), bind(join(other, 'lib'), '/srv/lib'))
    open(sight)
    rmSync(other, { recursive: true })
    renameSync(area, other)
    mkdirSync(area)
    expect(() => sight.open()).toThrow(mayNot)
  })

  test('does not count for a start that is refused', () => {
    mkdirSync(area)
    const link = linkTo(area)
    const sight = sightWith(bind(link, '/srv/app', 'read-write'))
    open(sight)
    linkTo(dirname(state))
    expect(() => sight.open()).toThrow('paths that do not hold the state directory')
    linkTo(area)
    open(sight)
  })

  test('and a state directory that was bare for one of them is so until it has ended', () => {
    mkdirSync(area)
    const link = linkTo(dirname(state))
    const sight = sightWith(bind(link, '/srv/app'))
    const first = sight.open()
    linkTo(area)
    open(sight)
    expect(sight.isBare).toBe(true)
    first.hold.releaseNow()
    expect(sight.isBare).toBe(false)
  })
})

test.runIf(process.platform === 'linux').each([
  ['what is mounted a second time', 0],
  ['what workers may write to', 1],
])('a start fails when descriptors do not suffice to look at %s', (_what, left) => {
  for (const name of ['a', 'b']) mkdirSync(join(directory, name))
  const script = `
    import { closeSync, openSync } from 'node:fs'
    import { Sight } from '${root}dist/runtime/process/isolation/sight.js'
    const binds = ['a', 'b'].map((name) => ({ source: '${directory}/' + name, target: '/srv/' + name, access: 'read-write' }))
    const sight = new Sight({ binds, cwd: undefined, supervisor: '${state}', temporary: '/nowhere' })
    const open = []
    const codes = []
    try { while (true) open.push(openSync('/')) } catch (error) { codes.push(error.code) }
    for (const descriptor of open.splice(0, ${left})) closeSync(descriptor)
    try { sight.open() } catch (error) { codes.push(error.code, error.syscall, error.path) }
    console.log(codes.join(' '))`
  const command = ['-c', 'ulimit -n 64; exec "$@"', 'sh', process.execPath, '--input-type=module', '-e', script]
  const path = left === 0 ? '/proc/self/mountinfo' : join(directory, 'b')
  expect(execFileSync('/bin/sh', command, { encoding: 'utf8' })).toBe(`EMFILE EMFILE open ${path}\n`)
})

describe('a working directory is refused', () => {
  test('in the state directory, also by a link', () => {
    for (const cwd of [state, join(state, 'w'), join(linkTo(state), 'w')]) {
      expect(() => check([], cwd)).toThrow('"cwd": expected a directory outside of the state directory')
    }
  })

  test('in what workers may write to, unless they see it there', () => {
    mkdirSync(join(area, 'a'), { recursive: true })
    expect(() => check([bind(area, '/srv', 'read-write')], join(area, 'a'))).toThrow(
      'a path that does not lead through',
    )
    check([rw(area)], join(area, 'a'))
    check([bind(area, '/srv', 'read-write')], area)
  })
})

describe.runIf(process.platform === 'linux')('the state directory is bare', () => {
  test.each<[string, boolean, () => Partial<MountRequest>]>([
    ['where everybody sees what is around it', true, () => ({ supervisor: '/var/lib/corral' })],
    ['and not where that is hidden', false, () => ({ supervisor: '/home/corral/state' })],
    ['and not where each has a place of its own', false, () => ({ supervisor: '/dev/shm/state' })],
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
    expect(open(sightOf(request())).isBare).toBe(bare)
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

  test.each(
    ['/mnt', '/home', '/run', '/media', '/var/tmp', '/var'].filter(
      // What the workers are made of may not lie in it.
      (path) => existsSync(path) && !fixturePath('runs-commands').startsWith(`${path}/`),
    ),
  )('%s is writable when it is bound to be', async (path) => {
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
  })
})
