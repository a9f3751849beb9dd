import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { isMainThread } from 'node:worker_threads'
import { setImmediate as tick } from 'node:timers/promises'
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { createPool, processWorker, type IsolationLevel } from 'corral'
import { usesBuild } from '../../../_build.ts'
import { fixture, fixtureMark, leavesNoProcess } from '../../../_processes.ts'
import { identify, readBootId } from '../../../../src/runtime/process/state/identity.ts'
import {
  closeStateDirectory,
  mendStateDirectory,
  openStateDirectory,
} from '../../../../src/runtime/process/state/state-directory.ts'
import { writeRecord } from '../_records.ts'

usesBuild()
leavesNoProcess()

const isRoot = process.geteuid?.() === 0

let stateDirectory: string

beforeEach(() => {
  stateDirectory = mkdtempSync(join(tmpdir(), 'state-'))
  mkdirSync(join(stateDirectory, 'own'), { mode: 0o700 })
  onTestFinished(() => rmSync(stateDirectory, { recursive: true }))
})

function open(isolation: IsolationLevel = 'none') {
  const worker = processWorker({ ...fixture('echo-server'), isolation, stateDirectory })
  return createPool({ worker, size: { min: 0, max: 1 } })
}

describe.runIf(process.platform !== 'win32')('a state directory', () => {
  const makeLink = (path: string) => symlinkSync('/nowhere', path)

  test('that was removed and taken by another supervisor is left to that one', async () => {
    const first = await open('group')
    rmSync(stateDirectory, { recursive: true })
    const second = await open('group')
    onTestFinished(() => second.close())
    const lease = await second.acquire('red')
    const failed = new Promise<string>((resolve) => {
      first.on('worker.draining', ({ failure }) => failure && resolve(failure.message))
      first.on('worker.crashed', ({ failure }) => resolve(failure.message))
    })
    const waiting = first.acquire('blue').catch((error: unknown) => error)
    expect(await failed).toContain('is in use by whoever answers at')
    await first.close({ force: true })
    expect(await waiting).toBeInstanceOf(Error)
    expect(lease.signal.aborted).toBe(false)
    expect(second.workers()).toMatchObject([{ sessionId: 'red' }])
    await expect(open('group')).rejects.toMatchObject({ code: 'STATE_DIRECTORY_IN_USE' })
    lease.release()
  })

  test('that was removed is not taken by another supervisor and put in order by its own at once', async () => {
    const outcomes = new Set<string>()
    for (let round = 0; round < 100; round++) {
      const first = await openStateDirectory(stateDirectory)
      rmSync(stateDirectory, { recursive: true })
      const mendLater = async () => {
        for (let turns = 0; turns < 5 * round; turns++) await tick()
        return mendStateDirectory(first)
      }
      const [opened, mended] = await Promise.allSettled([openStateDirectory(stateDirectory), mendLater()])
      outcomes.add(`${mended.status} ${opened.status}`)
      for (const result of [mended, opened]) {
        if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'STATE_DIRECTORY_IN_USE' })
      }
      if (opened.status === 'fulfilled') {
        const sockets = readdirSync(opened.value.own).filter((name) => name.startsWith('up.'))
        expect(sockets).toEqual([basename(opened.value.presence)])
        await closeStateDirectory(opened.value)
      }
      await closeStateDirectory(first)
      rmSync(stateDirectory, { recursive: true })
    }
    mkdirSync(stateDirectory)
    expect(outcomes).not.toContain('fulfilled fulfilled')
  })

  test.each([
    ['own', 'a file', makeFile, 'EEXIST'],
    ['own', 'a link to nowhere', makeLink, 'EEXIST'],
    ['own/ledger', 'a file', makeFile, 'EEXIST'],
    ['own/out.1', 'a directory', mkdirSync, 'EISDIR'],
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

  test('of which lock.1 is a pipe is taken', async () => {
    const path = join(stateDirectory, 'lock.1')
    makePipe(path)
    const pool = await open()
    await pool.close()
    expect(existsSync(path)).toBe(false)
  })

  const spoilt: [what: string, make: (path: string) => void, told: string][] = [
    ['is empty', makeFile, 'lock.1'],
    ['is cut off', (path) => writeFileSync(path, '{ "pid": 1'), 'lock.1'],
    ['is a pipe', makePipe, 'lock.1'],
    ['is gone', () => {}, 'no lock'],
  ]
  if (!isRoot) spoilt.push(['may not be read', makeClosed, 'lock.1'])

  test.each(spoilt)('in use whose lock %s is refused to another, until it is given back', async (_what, make, told) => {
    const pool = await open()
    const lock = join(stateDirectory, 'lock.1')
    rmSync(lock)
    make(lock)
    const message = expect.stringMatching(new RegExp(`"${stateDirectory}/own/up\\.\\w+" \\(.*${told}`))
    await expect(open()).rejects.toMatchObject({ code: 'STATE_DIRECTORY_IN_USE', message })
    await pool.close()
    const next = await open()
    await next.close()
  })

  test('in use from which somebody has removed the socket that says so is put in order by the next start', async () => {
    const pool = await open('group')
    onTestFinished(() => pool.close())
    for (const name of readdirSync(join(stateDirectory, 'own')).filter((it) => it.startsWith('up.')))
      rmSync(join(stateDirectory, 'own', name))
    const lease = await pool.acquire('red')
    rmSync(join(stateDirectory, 'lock.1'))
    await expect(open()).rejects.toMatchObject({ code: 'STATE_DIRECTORY_IN_USE' })
    lease.release()
  })

  test.runIf(process.platform === 'linux')(
    'in use in whose place somebody has put a copy is put in order by the next start',
    async () => {
      const worker = processWorker({ ...fixture('echo-server'), isolation: 'group', stateDirectory })
      const pool = await createPool({ worker, size: { min: 0, max: 2 } })
      onTestFinished(() => pool.close())
      using red = await pool.acquire('red')
      execFileSync('cp', ['-a', stateDirectory, `${stateDirectory}.copy`])
      rmSync(stateDirectory, { recursive: true })
      renameSync(`${stateDirectory}.copy`, stateDirectory)
      using blue = await pool.acquire('blue')
      rmSync(join(stateDirectory, 'lock.1'))
      await expect(open()).rejects.toMatchObject({ code: 'STATE_DIRECTORY_IN_USE' })
      expect([red, blue].map(({ signal }) => signal.aborted)).toEqual([false, false])
    },
  )

  test('that was taken back from a dead supervisor is not swept by what is left of that one', async () => {
    const state = await openStateDirectory(stateDirectory)
    const { path } = writeRecord(stateDirectory, NAME)
    const record = path.replace(/0(?=\.[^/]+$)/, String(state.generation))
    renameSync(path, record)
    const presence = join(state.own, 'up.00000000')
    makeFile(presence)
    await closeStateDirectory({ ...state, presence })
    expect(existsSync(record)).toBe(true)
    await expect(openStateDirectory(stateDirectory)).rejects.toMatchObject({ code: 'STATE_DIRECTORY_IN_USE' })
    await closeStateDirectory(state)
  })

  test.runIf(isMainThread)('has the modes that it and its files need, whatever the umask', async () => {
    const before = process.umask(0o777)
    onTestFinished(() => void process.umask(before))
    const outer = join(stateDirectory, 'own', 'outer')
    const state = await openStateDirectory(join(outer, 'state'))
    const lock = join(state.path, `lock.${state.generation}`)
    const paths = [outer, state.path, state.workers, state.own, state.presence, lock]
    const modes = () => paths.map((path) => statSync(path).mode & 0o777)
    expect(modes()).toEqual([0o711, 0o711, 0o711, 0o700, 0o600, 0o600])
    rmSync(outer, { recursive: true })
    await mendStateDirectory(state)
    expect(modes()).toEqual([0o711, 0o711, 0o711, 0o700, 0o600, 0o600])
    await closeStateDirectory(state)
  })

  test('that is removed, or another one in its place, is closed as it is', async () => {
    const path = join(stateDirectory, 'own', 'state')
    const replaced = [() => {}, () => mkdirSync(path)]
    for (const [index, replace] of replaced.entries()) {
      const state = await openStateDirectory(path)
      rmSync(path, { recursive: true })
      replace()
      await closeStateDirectory(state)
      expect(existsSync(path) && readdirSync(path)).toEqual(index === 0 ? false : [])
    }
  })

  test.each(['own', 'own/ledger', 'w'])(
    'of which %s is for others to write to is refused, and nothing removed',
    async (part) => {
      const { path, directory } = writeRecord(stateDirectory, NAME)
      mkdirSync(directory)
      chmodSync(join(stateDirectory, part), 0o777)
      const message = expect.stringContaining(`that only its owner may write to, got ${join(stateDirectory, part)}`)
      await expect(open()).rejects.toMatchObject({ code: 'INVALID_OPTION', message })
      expect([existsSync(path), existsSync(directory)]).toEqual([true, true])
    },
  )

  test('of which w is a link to a directory is refused, and nothing removed there', async () => {
    const elsewhere = makeElsewhere()
    writeRecord(stateDirectory, NAME)
    rmSync(join(stateDirectory, 'w'), { recursive: true })
    symlinkSync(elsewhere, join(stateDirectory, 'w'))
    const message = expect.stringContaining('a directory itself, not a link to one')
    await expect(open()).rejects.toMatchObject({ code: 'INVALID_OPTION', message })
    expect(existsSync(join(elsewhere, NAME, 'kept'))).toBe(true)
  })

  test('whose highest lock has a number too high to count on from is taken', async () => {
    writeFileSync(join(stateDirectory, `lock.${'9'.repeat(20)}`), '')
    const pool = await open()
    await pool.close()
  })

  test('whose lock has the highest number there is is refused each time, with its name', async () => {
    writeFileSync(join(stateDirectory, `lock.${'9'.repeat(14)}8`), '')
    const pool = await open()
    await pool.close()
    const message = expect.stringContaining(`${stateDirectory}, with lock.${'9'.repeat(15)} in it`)
    await expect(open()).rejects.toMatchObject({ code: 'INVALID_OPTION', message })
    await expect(open()).rejects.toMatchObject({ code: 'INVALID_OPTION', message })
  })

  test('without locks is numbered on from what the dead have written down', async () => {
    hearWarnings()
    mkdirSync(join(stateDirectory, 'own/ledger'), { mode: 0o700 })
    makeFile(join(stateDirectory, 'own/ledger/7.w1-00000000.json'))
    const pool = await open()
    expect(readdirSync(stateDirectory).filter((name) => name.startsWith('lock.'))).toEqual(['lock.8'])
    await pool.close()
  })

  test('that cannot be listed is refused', { skip: isRoot }, async () => {
    mkdirSync(join(stateDirectory, 'own/ledger'), { mode: 0o300 })
    const message = expect.stringContaining('a directory that can be written to')
    await expect(open()).rejects.toMatchObject({ code: 'INVALID_OPTION', message })
  })
})

describe.runIf(process.platform !== 'win32')('a private state directory', () => {
  /** A start of a gateway without a state directory of its own, where there is this one. */
  async function startBeside(name: string, lock: string | undefined, ledger: string | undefined) {
    const temporary = mkdtempSync(join(tmpdir(), 'private-'))
    vi.stubEnv('TMPDIR', temporary)
    onTestFinished(() => {
      vi.unstubAllEnvs()
      rmSync(temporary, { recursive: true })
    })
    const directory = join(temporary, name)
    mkdirSync(directory)
    if (ledger !== undefined) mkdirSync(join(directory, ledger), { recursive: true, mode: 0o700 })
    if (lock !== undefined) writeFileSync(join(directory, 'lock.1'), lock)
    await closeStateDirectory(await openStateDirectory(undefined))
    return readdirSync(temporary)
  }

  test('of nobody with a lock that says nothing is removed by the next start', async () => {
    expect(await startBeside('corral-aaaaaa', '', 'own/ledger')).toEqual([])
  })

  test.each([
    ['that is being made', undefined, 'own/ledger'],
    ['by its name alone', '', undefined],
    ['by its name alone, and given back', 'null', 'own/ledger'],
  ])('%s is left alone', async (_what, lock, ledger) => {
    expect(await startBeside('corral-aaaaaa', lock, ledger)).toEqual(['corral-aaaaaa'])
  })
})

function makeFile(path: string): void {
  writeFileSync(path, '')
}

function makePipe(path: string): void {
  execFileSync('mkfifo', [path])
}

function makeHuge(path: string): void {
  makeFile(path)
  truncateSync(path, 700 * 1024 * 1024)
}

function makeClosed(path: string): void {
  writeFileSync(path, '', { mode: 0 })
}

const NAME = 'w7-00000000'

/** A directory outside, with one of the name of a worker's in it. */
function makeElsewhere(): string {
  const elsewhere = mkdtempSync(join(tmpdir(), 'elsewhere-'))
  onTestFinished(() => rmSync(elsewhere, { recursive: true }))
  mkdirSync(join(elsewhere, NAME))
  writeFileSync(join(elsewhere, NAME, 'kept'), '')
  return elsewhere
}

function hearWarnings() {
  const warn = vi.spyOn(process, 'emitWarning').mockReturnValue()
  onTestFinished(() => warn.mockRestore())
  return warn
}

/** A process that is none of a worker's. */
function startBystander() {
  const bystander = spawn('sleep', ['1000'], { detached: true, env: { ...process.env, ...fixtureMark } })
  onTestFinished(() => void bystander.kill('SIGKILL'))
  const isThere = () => bystander.exitCode === null && bystander.signalCode === null && process.kill(bystander.pid!, 0)
  return { pid: bystander.pid!, isThere }
}

describe.runIf(process.platform !== 'win32')('a record in the ledger', () => {
  test.each([
    ['a directory elsewhere', (to: string) => ({ directory: join(to, NAME) }), 'directory'],
    [
      'a directory elsewhere, with dots',
      (to: string) => ({ directory: `${stateDirectory}/w/../..${to}/${NAME}` }),
      'directory',
    ],
    ['a directory behind a link', () => ({ directory: join(stateDirectory, 'w', 'link', NAME) }), 'directory'],
    ['a path that is none from the root', () => ({ directory: NAME }), 'directory'],
    ['the directory of all workers', () => ({ directory: join(stateDirectory, 'w') }), 'directory'],
    ['no directory', () => ({ directory: undefined }), 'directory'],
    ['another name', () => ({ name: '..' }), 'name'],
    ['no boot', () => ({ bootId: undefined }), 'bootId'],
    ['no cgroups', () => ({ cgroups: null }), 'cgroups'],
    ['half of a cgroup', () => ({ cgroups: [{ kind: 'unified' }] }), 'cgroups'],
    ['a process without a start', () => ({ process: { pid: process.pid, bootId: null } }), 'process'],
    ['the first process', () => ({ process: { pid: 1, startTime: 0, bootId: null } }), 'process'],
  ] as const)('with %s is told with its file, and nothing is removed for it', async (_what, fieldsFor, field) => {
    const warn = hearWarnings()
    const elsewhere = makeElsewhere()
    const { path, directory } = writeRecord(stateDirectory, NAME, fieldsFor(elsewhere))
    mkdirSync(directory)
    symlinkSync(elsewhere, join(stateDirectory, 'w', 'link'))
    const pool = await open()
    await pool.close()
    expect(warn.mock.calls).toEqual([
      [expect.stringMatching(/^Left alone: .* then remove the record$/), 'CorralWarning'],
    ])
    expect(warn.mock.calls[0]?.[0]).toContain(`${JSON.stringify(path)}, which is not right: expected ${field} to be `)
    expect([path, directory, join(elsewhere, NAME, 'kept')].map((it) => existsSync(it))).toEqual([true, true, true])
  })

  test.each([
    ['null', `0.${NAME}.json`, 'expected name to be'],
    ['{ "name": "w7-0', `0.${NAME}.json`, 'expected JSON'],
    ['{}', 'notes.txt', 'expected the name of a record'],
  ])('that is %s in %s is told with its file, and stays', async (text, file, problem) => {
    const warn = hearWarnings()
    const path = join(stateDirectory, 'own/ledger', file)
    mkdirSync(join(stateDirectory, 'own/ledger'), { mode: 0o700 })
    writeFileSync(path, text)
    const pool = await open()
    await pool.close()
    expect(warn.mock.calls).toEqual([
      [expect.stringContaining(`${JSON.stringify(path)}, which is not right: ${problem}`), 'CorralWarning'],
    ])
    expect(existsSync(path)).toBe(true)
  })

  const spoilt: [what: string, make: (path: string) => void, problem: string][] = [
    ['is empty', makeFile, 'expected JSON'],
    ['is a pipe', makePipe, 'something that is no file'],
    ['is a directory', (path) => mkdirSync(path), 'something that is no file'],
    ['is larger than any text', makeHuge, '734003200 bytes'],
  ]
  if (!isRoot) spoilt.push(['may not be read', makeClosed, 'EACCES'])

  test.each(spoilt)('that %s is told at each start, and stays with what it may name', async (_what, make, problem) => {
    const warn = hearWarnings()
    const { path, directory } = writeRecord(stateDirectory, NAME)
    mkdirSync(directory)
    rmSync(path)
    make(path)
    await (await open()).close()
    await (await open()).close()
    const warning = [
      expect.stringMatching(`^Left alone: .*${path}.*, which is not right: .*${problem}`),
      'CorralWarning',
    ]
    expect(warn.mock.calls).toEqual([warning, warning])
    expect([path, directory].map((it) => existsSync(it))).toEqual([true, true])
  })

  test('that was not written to its end is removed', async () => {
    const warn = hearWarnings()
    const { path } = writeRecord(stateDirectory, NAME)
    rmSync(path)
    makeFile(`${path}.draft`)
    const pool = await open()
    await pool.close()
    expect([warn.mock.calls, existsSync(`${path}.draft`)]).toEqual([[], false])
  })

  test('that names its directory by another name of the state directory is followed', async () => {
    const elsewhere = makeElsewhere()
    symlinkSync(stateDirectory, join(elsewhere, 'state'))
    const { path, directory } = writeRecord(stateDirectory, NAME, { directory: join(elsewhere, 'state', 'w', NAME) })
    mkdirSync(directory)
    const pool = await open()
    await pool.close()
    expect([path, directory].map((it) => existsSync(it))).toEqual([false, false])
  })

  test('that tells nothing but the id of a process costs that process nothing', async () => {
    const bystander = startBystander()
    const leader = { pid: bystander.pid, startTime: null, bootId: null }
    const { path } = writeRecord(stateDirectory, NAME, { bootId: await readBootId(), process: leader })
    const pool = await open()
    await pool.close()
    expect([existsSync(path), bystander.isThere()]).toEqual([false, true])
  })

  test.runIf(process.platform === 'linux')(
    'that names a process of another PID namespace costs none of that id anything',
    async () => {
      const bystander = startBystander()
      const leader = { ...(await identify(bystander.pid)), pidNamespace: 'pid:[1]' }
      const { path } = writeRecord(stateDirectory, NAME, { bootId: await readBootId(), process: leader })
      const pool = await open()
      await pool.close()
      expect([existsSync(path), bystander.isThere()]).toEqual([false, true])
    },
  )

  test.runIf(process.platform === 'linux')(
    'that names what is no cgroup costs no process that is written there',
    async () => {
      const warn = hearWarnings()
      const bystander = startBystander()
      const cgroup = join(makeElsewhere(), `corral-${NAME}`)
      mkdirSync(cgroup)
      writeFileSync(join(cgroup, 'cgroup.procs'), String(bystander.pid))
      const cgroups = [{ kind: 'freezer', path: cgroup }]
      writeRecord(stateDirectory, NAME, { bootId: await readBootId(), cgroups })
      const pool = await open()
      await pool.close()
      expect(warn.mock.calls).toEqual([
        [expect.stringContaining('expected cgroups to be in a hierarchy'), 'CorralWarning'],
      ])
      expect([existsSync(cgroup), bystander.isThere()]).toEqual([true, true])
    },
  )

  test.runIf(process.platform === 'linux')(
    'that is of another state directory costs none of its processes anything',
    async () => {
      hearWarnings()
      const bystander = startBystander()
      const bootId = await readBootId()
      const directory = join(makeElsewhere(), NAME)
      writeRecord(stateDirectory, NAME, { directory, bootId, process: await identify(bystander.pid) })
      const pool = await open()
      await pool.close()
      expect(bystander.isThere()).toBe(true)
    },
  )
})
