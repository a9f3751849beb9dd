import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi, type MockInstance } from 'vitest'
import { WorkerCgroup } from '../../../src/runtime/process/cgroup/worker-cgroup.ts'
import { Claims } from '../../../src/runtime/process/claims.ts'
import { deferred } from '../../../src/runtime/deferred.ts'
import { ProcessInstance } from '../../../src/runtime/process/instance.ts'
import { processWorkerOptions } from '../../../src/runtime/process/options.ts'
import type { Remains } from '../../../src/runtime/process/remains.ts'
import type { SpawnedProcess } from '../../../src/runtime/process/spawn/spawned-process.ts'
import { validate } from '../../../src/runtime/validate.ts'

/** An id that no process has. */
const NOBODY = 4_190_000

const releaseRecord = vi.fn<() => Promise<void>>(async () => {})
const record = { release: releaseRecord, releaseNow: () => {} }
const releaseDirectory = vi.fn<() => Promise<void>>(async () => {})
let claims: Claims
let warn: MockInstance<typeof process.emitWarning>

beforeEach(() => {
  warn = vi.spyOn(process, 'emitWarning').mockReturnValue()
  claims = new Claims()
  claims.recordIn(record)
  claims.add({ release: releaseDirectory, releaseNow: () => {} })
})

afterEach(() => {
  vi.restoreAllMocks()
  releaseRecord.mockClear()
  releaseDirectory.mockClear()
})

/** What looks like a cgroup of the worker with a process in it. */
function makeCgroup(): string {
  const directory = mkdtempSync(join(tmpdir(), 'claims-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  const path = join(directory, 'corral-w1')
  mkdirSync(path)
  writeFileSync(join(path, 'cgroup.procs'), `${NOBODY}\n`)
  return path
}

test('what is in the cgroup of a worker is ended while its group is', async () => {
  const path = makeCgroup()
  const killed = deferred()
  vi.spyOn(process, 'kill').mockImplementation((pid) => {
    if (pid === NOBODY) {
      rmSync(join(path, 'cgroup.procs'), { force: true })
      killed.resolve()
    }
    return true
  })
  const child = createChild({ exit: Promise.resolve({ exitCode: 0, signal: null }) })
  const emptied = killed.promise.then(() => [])
  const { instance } = supervise({ ...child, emptied }, new WorkerCgroup([{ kind: 'unified', path }]))
  expect(await instance.exited).toMatchObject({ exitCode: 0 })
})

describe('what is written of a worker', () => {
  test('is removed when nothing of it is left', async () => {
    claims.add({ release: async () => {}, releaseNow: () => {} })
    await claims.release()
    expect(releaseRecord).toHaveBeenCalledOnce()
  })

  test('is kept when processes in its cgroup would not die', async () => {
    const path = makeCgroup()
    let now = 0
    vi.spyOn(performance, 'now').mockImplementation(() => (now += 2_500))
    vi.spyOn(process, 'kill').mockReturnValue(true)
    claims.add(new WorkerCgroup([{ kind: 'unified', path }]))
    await claims.release()
    expect(warn).toHaveBeenCalledWith(expect.stringContaining(String(NOBODY)), 'CorralWarning')
    expect(releaseRecord).not.toHaveBeenCalled()
  })

  test('is kept when processes in its group would not die, with all that they may still use', async () => {
    const kill = vi.spyOn(process, 'kill').mockReturnValue(true)
    const { pid, end } = startSurvivor()
    const child = createChild({ exit: Promise.resolve({ exitCode: 0, signal: null }) })
    const { instance, left } = supervise({ ...child, emptied: Promise.resolve([pid]) })
    const message = `Processes ${pid} of worker w1 could not be killed`
    expect(await instance.exited).toEqual({ exitCode: 0, signal: null, message, retry: true })
    expect(warn).toHaveBeenCalledExactlyOnceWith(`${message}; the next start tries again`, 'CorralWarning')
    expect(idsIn(left)).toEqual([pid])
    expect(kill).toHaveBeenCalledWith(pid, 'SIGKILL')
    expect(releaseDirectory).not.toHaveBeenCalled()
    expect(releaseRecord).not.toHaveBeenCalled()
    await end()
    expect(idsIn(left)).toEqual([])
    await vi.waitFor(() => expect(releaseRecord).toHaveBeenCalledOnce(), { timeout: 10_000 })
    expect(releaseDirectory).toHaveBeenCalledOnce()
    expect(left.size).toBe(0)
  })

  test('is removed when those that would not die have ended by the time that they would be told of', async () => {
    const child = createChild({ exit: Promise.resolve({ exitCode: 0, signal: null }) })
    const { instance, left } = supervise({ ...child, emptied: Promise.resolve([NOBODY]) })
    expect(await instance.exited).toEqual({ exitCode: 0, signal: null, retry: true })
    expect(warn).not.toHaveBeenCalled()
    expect(left.size).toBe(0)
    expect(releaseRecord).toHaveBeenCalledOnce()
  })

  test('is kept when SIGKILL does not end the worker, until that ends after all', async () => {
    vi.spyOn(process, 'kill').mockReturnValue(true)
    const survivor = startSurvivor()
    const { pid } = survivor
    const end = deferred()
    const exit = end.promise.then(() => ({ exitCode: null, signal: 'SIGKILL' }))
    const { instance, left } = supervise({ ...createChild({ exit, stuck: Promise.resolve() }), pid })
    const message = `Processes ${pid} of worker w1 could not be killed`
    expect(await instance.exited).toEqual({ exitCode: null, signal: null, message })
    expect(warn).toHaveBeenCalledExactlyOnceWith(`${message}; the next start tries again`, 'CorralWarning')
    expect(idsIn(left)).toEqual([pid])
    await expect(instance.ready(new AbortController().signal)).rejects.toThrow(message)
    expect(releaseDirectory).not.toHaveBeenCalled()
    await survivor.end()
    end.resolve()
    await vi.waitFor(() => expect(releaseRecord).toHaveBeenCalledOnce())
    expect(releaseDirectory).toHaveBeenCalledOnce()
    expect(left.size).toBe(0)
  })
})

/** A process that lives until it is let go. */
function startSurvivor() {
  const child = spawn('cat')
  const exited = once(child, 'exit')
  const end = async () => {
    child.stdin.end()
    await exited
  }
  onTestFinished(end)
  return { pid: child.pid!, end }
}

function idsIn(left: ReadonlySet<Remains>): number[] {
  return [...left].flatMap((remains) => remains.pids())
}

/** A process that nobody is. */
function createChild(facts: Pick<SpawnedProcess, 'exit'> & Partial<Pick<SpawnedProcess, 'stuck'>>): SpawnedProcess {
  return {
    pid: NOBODY,
    stdout: new PassThrough().end(),
    stderr: new PassThrough().end(),
    stuck: new Promise(() => {}),
    emptied: facts.exit.then(() => []),
    signal: () => {},
    killNow: () => {},
    ...facts,
  }
}

function supervise(child: SpawnedProcess, cgroup?: WorkerCgroup) {
  const left = new Set<Remains>()
  const nothing = { release: async () => {}, releaseNow: () => {} }
  const instance = new ProcessInstance(child, {
    workerId: 'w1',
    settings: validate(processWorkerOptions, { command: 'true' }),
    reserved: { address: { host: '127.0.0.1', port: 1 }, port: undefined, pin: undefined, ...nothing },
    claims,
    release: (held) => held.release(),
    cgroup,
    directory: undefined,
    left,
  })
  return { instance, left }
}
