import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createPool, processWorker } from 'corral'
import type { Pool, PoolOptions, ProcessWorkerOptions } from 'corral'
import { fixture, fixtureProcesses, leavesNoProcess } from '../../_processes.ts'
import { getJson } from './_launch.ts'

leavesNoProcess()

let directory: string
const pools = new Set<Pool>()

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'pool-'))
})

afterEach(async () => {
  await Promise.all([...pools].map((pool) => pool.close()))
  pools.clear()
  rmSync(directory, { recursive: true })
})

async function start(options: ProcessWorkerOptions, rest: Omit<PoolOptions, 'worker'> = {}): Promise<Pool> {
  const pool = await createPool({ worker: processWorker(options), size: { min: 1, max: 2 }, ...rest })
  pools.add(pool)
  return pool
}

describe('a pool of processes', () => {
  test('starts again on another port after a collision', async () => {
    const log = join(directory, 'ports')
    const env = { COLLISIONS: '2', COLLISIONS_FILE: join(directory, 'collisions'), LOG_FILE: log }
    const pool = await start(fixture('exits-on-taken-port', env))
    using lease = await pool.acquire('red')
    expect(await getJson(lease.worker, '/')).toMatchObject({ worker: lease.worker.id })
    expect(new Set(readFileSync(log, 'utf8').trim().split('\n')).size).toBeGreaterThanOrEqual(3)
  })

  test('gives up after startAttempts, with the last words of the worker', async () => {
    const log = join(directory, 'ports')
    const env = { COLLISIONS: '99', COLLISIONS_FILE: join(directory, 'collisions'), LOG_FILE: log }
    const options = { ...fixture('exits-on-taken-port', env), health: { startAttempts: 2 } }
    await expect(start(options)).rejects.toMatchObject({
      code: 'WORKER_START_FAILED',
      exitCode: 98,
      output: [expect.stringContaining('EADDRINUSE')],
    })
    expect(readFileSync(log, 'utf8').trim().split('\n')).toHaveLength(2)
  })

  test('names a command that does not exist, and does not try it again', async () => {
    await expect(start({ command: 'no-such-command' })).rejects.toMatchObject({
      code: 'WORKER_START_FAILED',
      message: expect.stringContaining('Cannot start "no-such-command"') as string,
    })
  })

  test('gives up on a worker that does not become ready in time', async () => {
    await expect(start({ ...fixture('never-ready'), health: { startTimeout: 50 } })).rejects.toMatchObject({
      code: 'WORKER_START_TIMEOUT',
    })
  })

  test('loses the session of a process that dies, with its signal and last words', async () => {
    const pool = await start(fixture('echo-server'))
    const lost = new Promise((resolve) => {
      pool.on('session.lost', resolve)
    })
    using lease = await pool.acquire('red')
    await getJson(lease.worker, '/print?stream=stderr&line=goodbye')
    await getJson(lease.worker, '/crash?signal=SIGKILL').catch(() => {})
    expect(await lost).toMatchObject({ sessionId: 'red', signal: 'SIGKILL', output: ['goodbye'] })
  })

  test('kills what ignores a polite stop', async () => {
    const pool = await start({ ...fixture('ignores-sigterm'), stop: { grace: 20 } })
    await pool.close()
    expect(fixtureProcesses()).toEqual([])
  })
})
