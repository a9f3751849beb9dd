import { existsSync, readdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { createPool } from '../../../src/runtime/create-pool.ts'
import { processWorker } from '../../../src/runtime/process/index.ts'
import { usesBuild } from '../../_build.ts'
import { fixture, leavesNoProcess } from '../../_processes.ts'
import { canFreeze, freeze } from './_cgroups.ts'

usesBuild()
leavesNoProcess()

describe.runIf(await canFreeze())('a worker that SIGKILL does not end', () => {
  test.each(['none', 'group', 'namespaces'] as const)(
    'at %s makes room for the next one, keeps what it may still use, and is cleaned up after when it ends after all',
    async (isolation) => {
      const warn = vi.spyOn(process, 'emitWarning').mockReturnValue()
      onTestFinished(() => warn.mockRestore())
      const worker = processWorker({ ...fixture('echo-server', {}, 'socket'), isolation, stop: { grace: 100 } })
      await using pool = await createPool({ worker, size: { min: 0, max: 1 } })
      const dead = new Promise((resolve) => {
        pool.on('worker.dead', resolve)
      })
      const lease = await pool.acquire('red')
      const { pid, address } = lease.worker
      lease.release()
      const socket = 'socketPath' in address ? address.socketPath : ''
      const thaw = await freeze(pid!)
      await pool.end('red')
      expect(await dead).toMatchObject({ reason: 'stopped', exitCode: null, signal: null })
      const message = `Processes ${pid} of worker w1 could not be killed`
      expect(warn).toHaveBeenCalledExactlyOnceWith(expect.stringContaining(message), 'CorralWarning')
      expect(pool.stats().isolation?.left).toEqual([pid])
      expect(existsSync(dirname(socket))).toBe(true)
      using next = await pool.acquire('blue')
      expect(next.worker.id).not.toBe('w1')
      thaw()
      await vi.waitUntil(() => pool.stats().isolation?.left === undefined, { timeout: 10_000 })
      await vi.waitUntil(() => !existsSync(dirname(socket)), { timeout: 10_000 })
      expect(warn).toHaveBeenCalledOnce()
    },
    60_000,
  )

  test('does not keep the pool from closing, nor the next start from removing what is left', async () => {
    const warn = vi.spyOn(process, 'emitWarning').mockReturnValue()
    onTestFinished(() => warn.mockRestore())
    const worker = processWorker({ ...fixture('echo-server', {}, 'socket'), stop: { grace: 0 } })
    const pool = await createPool({ worker, size: { min: 0, max: 1 } })
    const { pid, address } = (await pool.acquire('red')).worker
    const directory = dirname(dirname('socketPath' in address ? address.socketPath : ''))
    const thaw = await freeze(pid!)
    await pool.close()
    expect(pool.stats().isolation?.left).toEqual([pid])
    expect(readdirSync(directory)).not.toEqual([])
    thaw()
    await (await createPool({ worker, size: { min: 0, max: 1 } })).close()
    expect(existsSync(directory)).toBe(false)
  }, 60_000)
})
