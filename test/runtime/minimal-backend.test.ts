import { createPool, type WorkerExit, type WorkerInstance } from 'corral'
import { expect, test } from 'vitest'

/** An instance with what the contract demands, and nothing of what it allows. */
function instance(ready: () => Promise<void>): WorkerInstance & { exit: (exit: WorkerExit) => void } {
  let exit!: (exit: WorkerExit) => void
  const exited = new Promise<WorkerExit>((resolve) => (exit = resolve))
  const end = () => exit({ exitCode: 0, signal: null })
  return { address: { socketPath: '/run/worker' }, exited, exit, ready, stop: end, kill: end }
}

test('a backend without probes and output serves, and its losses have no lines', async () => {
  const workers: ReturnType<typeof instance>[] = []
  const launch = () => {
    workers.push(instance(() => Promise.resolve()))
    return Promise.resolve(workers.at(-1) as WorkerInstance)
  }
  const pool = await createPool({ worker: { launch }, size: { min: 1, max: 1 } })
  const lease = await pool.acquire('a')
  expect(lease.worker).toEqual({ id: 'w1', pid: undefined, address: { socketPath: '/run/worker' } })
  const lost = new Promise((resolve) => pool.on('session.lost', resolve))
  workers[0]?.exit({ exitCode: 7, signal: null })
  expect(await lost).toMatchObject({ sessionId: 'a', exitCode: 7, output: [] })
  await pool.close()
})

test('a start that fails on a backend without output says why', async () => {
  const launch = () => Promise.resolve(instance(() => Promise.reject(new Error('no licence'))))
  const starting = createPool({ worker: { launch }, size: { min: 1, max: 1 } })
  await expect(starting).rejects.toMatchObject({ code: 'WORKER_START_FAILED', output: [] })
  await expect(starting).rejects.toThrow('no licence')
})
