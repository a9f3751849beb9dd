import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi, type MockInstance } from 'vitest'
import { WorkerCgroup } from '../../../src/runtime/process/cgroup/worker-cgroup.ts'
import { Claims } from '../../../src/runtime/process/claims.ts'
import { ProcessInstance } from '../../../src/runtime/process/instance.ts'
import { processWorkerOptions } from '../../../src/runtime/process/options.ts'
import { validate } from '../../../src/runtime/validate.ts'

/** An id that no process has. */
const NOBODY = 4_190_000

const releaseRecord = vi.fn<() => Promise<void>>(async () => {})
const record = { release: releaseRecord, releaseNow: () => {} }
let claims: Claims
let warn: MockInstance<typeof process.emitWarning>

beforeEach(() => {
  warn = vi.spyOn(process, 'emitWarning').mockReturnValue()
  claims = new Claims()
  claims.recordIn(record)
})

afterEach(() => {
  vi.restoreAllMocks()
  releaseRecord.mockClear()
})

describe('what is written of a worker', () => {
  test('is removed when nothing of it is left', async () => {
    claims.add({ release: async () => {}, releaseNow: () => {} })
    await claims.release()
    expect(releaseRecord).toHaveBeenCalledOnce()
  })

  test('is kept when processes in its cgroup would not die', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'claims-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    const path = join(directory, 'corral-w1')
    mkdirSync(path)
    writeFileSync(join(path, 'cgroup.procs'), `${NOBODY}\n`)
    let now = 0
    vi.spyOn(performance, 'now').mockImplementation(() => (now += 2_500))
    vi.spyOn(process, 'kill').mockReturnValue(true)
    claims.add(new WorkerCgroup([{ kind: 'unified', path }]))
    await claims.release()
    expect(warn).toHaveBeenCalledWith(expect.stringContaining(String(NOBODY)), 'CorralWarning')
    expect(releaseRecord).not.toHaveBeenCalled()
  })

  test('is kept when processes in its group would not die', async () => {
    const child = {
      pid: NOBODY,
      stdout: new PassThrough().end(),
      stderr: new PassThrough().end(),
      exit: Promise.resolve({ exitCode: 0, signal: null }),
      emptied: Promise.resolve([NOBODY]),
      signal: () => {},
      killNow: () => {},
    }
    const instance = new ProcessInstance(child, {
      workerId: 'w1',
      settings: validate(processWorkerOptions, { command: 'true' }),
      reserved: {
        address: { host: '127.0.0.1', port: 1 },
        port: undefined,
        pin: undefined,
        release: async () => {},
        releaseNow: () => {},
      },
      claims,
      release: (held) => held.release(),
      cgroup: undefined,
      directory: undefined,
    })
    expect(await instance.exited).toMatchObject({ message: expect.stringContaining(String(NOBODY)) as string })
    expect(releaseRecord).not.toHaveBeenCalled()
  })
})
