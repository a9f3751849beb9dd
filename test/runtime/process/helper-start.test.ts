import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { createPool, processWorker, type Pool } from 'corral'
import { childrenOf } from '../../../src/runtime/process/_proc.ts'
import { HelperSpawner } from '../../../src/runtime/process/spawn/helper-spawner.ts'
import { closeStateDirectory, openStateDirectory } from '../../../src/runtime/process/state/state-directory.ts'
import { usesBuild } from '../../_build.ts'
import { fixture, leavesNoProcess } from '../../_processes.ts'
import { useStoppingNode } from './_stopping-node.ts'

usesBuild()
leavesNoProcess()

const reason = new Error('not wanted')

function parentOf(pid: number): number {
  return Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
}

/** Where what is temporary goes in one test, for it to look at what is left. */
function useTemporary(): string {
  const directory = mkdtempSync(join(tmpdir(), 'start-'))
  vi.stubEnv('TMPDIR', directory)
  onTestFinished(() => {
    vi.unstubAllEnvs()
    rmSync(directory, { recursive: true })
  })
  return directory
}

describe.runIf(process.platform === 'linux')('a spawn helper that hangs as it starts', () => {
  test('is killed, with an error that says what to look at, and another one takes over', async () => {
    const request = {
      command: 'true',
      args: [],
      cwd: undefined,
      env: { PATH: process.env['PATH'] ?? '' },
      signals: 'group',
      session: 'left',
      filter: undefined,
    } as const
    const node = useStoppingNode()
    const state = await openStateDirectory(undefined)
    onTestFinished(() => closeStateDirectory(state))
    const open = () => HelperSpawner.open(state, undefined, { start: 2_000, answer: 30_000 })
    const failure = {
      code: 'WORKER_START_FAILED',
      message: expect.stringMatching(
        /^The spawn helper did not get ready: it said nothing for 2 s.*ulimit -u.*stopped/,
      ),
    }
    node.stop()
    const refused = rejection(open())
    const first = await node.stopped()
    expect(await refused).toMatchObject(failure)
    expect(existsSync(`/proc/${first}`)).toBe(false)
    expect(readdirSync(state.own).toSorted()).toEqual(['ledger', basename(state.presence)])

    node.go()
    const spawner = await open()
    onTestFinished(() => spawner.close())
    node.stop()
    process.kill(childNamed('corral-spawn'), 'SIGKILL')
    await vi.waitUntil(() => childNamed('corral-spawn') === 0)
    await expect(spawner.spawn(request, undefined)).rejects.toMatchObject(failure)
    node.go()
    const worker = await spawner.spawn(request, undefined)
    expect(await worker.exit).toEqual({ exitCode: 0, signal: null })
  })

  test('holds no place of a worker that is not ready in time, and may still go on', async () => {
    const { health, ...options } = { ...fixture('echo-server'), health: { startTimeout: 1_500 } }
    const node = useStoppingNode()
    const pool = await createPool({ worker: processWorker({ ...options, health }), size: { min: 0, max: 1 } })
    onTestFinished(() => pool.close({ force: true }))
    const red = await pool.acquire('red')
    node.stop()
    process.kill(parentOf(red.worker.pid!), 'SIGKILL')
    const died = nextFailure(pool)
    const waiting = pool.acquire('blue')
    const helper = await node.stopped()
    expect(await died).toMatch(/^The worker was not ready in time\. .*: The spawn helper is not ready yet$/)
    process.kill(helper, 'SIGCONT')
    using blue = await waiting
    expect(parentOf(blue.worker.pid!)).toBe(helper)
  })

  test('is ended at once when the pool is closed, or is not wanted any more before it is there', async () => {
    const worker = processWorker(fixture('echo-server'))
    const node = useStoppingNode()
    const temporary = useTemporary()
    const pool = await createPool({ worker, size: { min: 0, max: 1 } })
    const red = await pool.acquire('red')
    node.stop()
    process.kill(parentOf(red.worker.pid!), 'SIGKILL')
    const refused = rejection(pool.acquire('blue'))
    const helper = await node.stopped()
    await pool.close()
    expect(await refused).toMatchObject({ code: 'POOL_DRAINING' })
    expect(existsSync(`/proc/${helper}`)).toBe(false)
    expect(readdirSync(temporary)).toEqual([])

    const controller = new AbortController()
    const creating = rejection(createPool({ worker, size: { min: 0, max: 1 }, signal: controller.signal }))
    const another = await node.stopped()
    controller.abort(reason)
    expect(await creating).toBe(reason)
    expect(existsSync(`/proc/${another}`)).toBe(false)
    expect(readdirSync(temporary)).toEqual([])
  })

  test('stays for a pool of the same backend that still wants it', async () => {
    const worker = processWorker(fixture('echo-server'))
    const node = useStoppingNode()
    node.stop()
    const controller = new AbortController()
    const size = { min: 0, max: 1 }
    const refused = rejection(createPool({ worker, size, signal: controller.signal }))
    const creating = createPool({ worker, size })
    const helper = await node.stopped()
    controller.abort(reason)
    expect(await refused).toBe(reason)
    process.kill(helper, 'SIGCONT')
    const pool = await creating
    onTestFinished(() => pool.close())
    using red = await pool.acquire('red')
    expect(parentOf(red.worker.pid!)).toBe(helper)
  })
})

function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => expect.fail('the promise was fulfilled'),
    (error: unknown) => error,
  )
}

/** The message of the next failure of a worker that is gone. */
function nextFailure(pool: Pool): Promise<string> {
  return new Promise((resolve) => {
    pool.on('worker.crashed', ({ failure }) => {
      if (failure.code.startsWith('WORKER_START')) resolve(failure.message)
    })
  })
}

/** `0`: there is none. */
function childNamed(name: string): number {
  return childrenOf(process.pid).find((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8') === `${name}\n`) ?? 0
}
