import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { findHierarchies, type Hierarchies } from '../../../../src/runtime/process/cgroup/hierarchies.ts'
import { planDirectories } from '../../../../src/runtime/process/cgroup/limits.ts'
import { createCgroup } from '../../../../src/runtime/process/cgroup/worker-cgroup.ts'
import { root, usesBuild } from '../../../_build.ts'
import { fixtureMark, fixtureProcesses, leavesNoProcess } from '../../../_processes.ts'
import { inCgroups, makeCgroups } from '../_cgroups.ts'

usesBuild()
leavesNoProcess()

const isRoot = process.platform === 'linux' && process.geteuid?.() === 0
const { unified, unifiedControllers, v1 } = await findHierarchies()

/** Runs a command in a cgroup, until the test is over. */
function runIn(cgroups: readonly string[], command: readonly string[]): ChildProcess {
  const child = spawn(...inCgroups(cgroups, command), {
    env: { PATH: process.env['PATH'], ...fixtureMark },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  return child
}

/** A fork bomb, at any time as large as it may be. Ends by itself. */
const BOMB = `
import os, time
end = time.monotonic() + 30
while time.monotonic() < end:
    try: os.fork()
    except OSError: pass
`

describe.runIf(isRoot)('without cgroup.kill', () => {
  test.runIf(v1.has('freezer'))('a fork bomb is killed whole, and its cgroup removed', async () => {
    const hierarchies = { unified: undefined, unifiedControllers: new Set<string>(), v1 }
    const cgroup = await createCgroup(planDirectories(hierarchies, { pids: 40 }), `corral-test-${process.pid}`)
    const paths = cgroup.directories.map(({ path }) => path)
    runIn(paths, ['/usr/bin/python3', '-c', BOMB])
    await vi.waitUntil(async () => (await cgroup.members()).length > 20, { timeout: 20_000 })
    expect(await cgroup.empty()).toEqual([])
    expect(fixtureProcesses()).toEqual([])
  })
})

describe.runIf(isRoot)('cgroups that a worker makes below its own', () => {
  async function expectGone(hierarchies: Hierarchies) {
    const cgroup = await createCgroup(planDirectories(hierarchies, {}), `corral-test-${process.pid}`)
    const nested = cgroup.directories.map(({ path }) => join(path, 'a', 'b'))
    for (const path of nested) mkdirSync(path, { recursive: true })
    const child = runIn(nested, ['sleep', '1000'])
    await vi.waitFor(async () => expect(await cgroup.members()).toEqual([child.pid]))
    expect(await cgroup.empty()).toEqual([])
    expect(fixtureProcesses()).toEqual([])
    expect(cgroup.directories.filter(({ path }) => existsSync(path))).toEqual([])
  }

  test.runIf(unified !== undefined)('go with it, and what runs in them', () =>
    expectGone({ unified, unifiedControllers, v1 }),
  )

  test.runIf(v1.has('freezer'))('go with it without cgroup.kill, too', () =>
    expectGone({ unified: undefined, unifiedControllers: new Set(), v1 }),
  )
})

/** Passes on a controller of the directory whose cgroup it is in, when it is told to. */
const SUPERVISOR = `
import { passOn } from '${root}dist/runtime/process/cgroup/delegation.js'
const [directory, controller] = process.argv.slice(1)
process.stdin.once('data', async () => {
  const outcome = await passOn(directory, [controller]).then(() => 'passed on', (error) => error.message)
  console.log(JSON.stringify(outcome))
})
console.log('ready')
`

// How controllers are passed on does not depend on which, but for these, which put up with processes beside them (threaded).
const controller = [...unifiedControllers].find((name) => !['cpu', 'cpuset', 'perf_event', 'pids'].includes(name))

describe.runIf(isRoot && unified !== undefined && controller !== undefined)('passing controllers on', () => {
  /** A cgroup that has the controller. Its parent, where this test runs, gives it only for as long as that takes. */
  async function makeCgroup(): Promise<string> {
    const offer = (sign: '+' | '-') => writeFileSync(join(unified!, 'cgroup.subtree_control'), `${sign}${controller}`)
    if (!passedOn(unified!).split(' ').includes(controller!)) {
      onTestFinished(() => offer('-'))
      offer('+')
    }
    const [directory = ''] = await makeCgroups(['unified'])
    return directory
  }

  async function startSupervisor(directory: string) {
    const child = runIn(
      [directory],
      [process.execPath, '--input-type=module', '-e', SUPERVISOR, directory, controller!],
    )
    await once(child.stdout!, 'data')
    return {
      pid: child.pid!,
      passOn: async () => {
        child.stdin!.write('go')
        const [line] = (await once(child.stdout!, 'data')) as [Buffer]
        return JSON.parse(line.toString()) as string
      },
    }
  }

  const cgroupOf = (pid: number) => /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'latin1'))?.[1]
  const passedOn = (directory: string) => readFileSync(join(directory, 'cgroup.subtree_control'), 'latin1').trim()

  test('moves this process to a leaf, as only that may hold processes then', async () => {
    const directory = await makeCgroup()
    const supervisor = await startSupervisor(directory)
    expect(await supervisor.passOn()).toBe('passed on')
    expect(passedOn(directory)).toBe(controller)
    expect(cgroupOf(supervisor.pid)).toMatch(/\/corral-supervisor$/)
  })

  test('leaves everything as it was when another process is in the way, and says so', async () => {
    const directory = await makeCgroup()
    runIn([directory], ['sleep', '1000'])
    const supervisor = await startSupervisor(directory)
    const before = cgroupOf(supervisor.pid)
    expect(await supervisor.passOn()).toContain('other processes are in this cgroup')
    expect(passedOn(directory)).toBe('')
    expect(cgroupOf(supervisor.pid)).toBe(before)
  })
})
