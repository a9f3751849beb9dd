import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { createPool } from '../../../src/runtime/create-pool.ts'
import { childrenOf } from '../../../src/runtime/process/_proc.ts'
import { processWorker } from '../../../src/runtime/process/index.ts'
import { usesBuild } from '../../_build.ts'
import { fixture, fixtureProcesses, leavesNoProcess } from '../../_processes.ts'
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

  test.each(['none', 'group', 'namespaces'] as const)(
    'at %s is cleaned up after, too, when it is only a child of one that has ended',
    async (isolation) => {
      const warn = vi.spyOn(process, 'emitWarning').mockReturnValue()
      const stateDirectory = mkdtempSync(join(tmpdir(), 'stuck-'))
      onTestFinished(() => {
        warn.mockRestore()
        rmSync(stateDirectory, { recursive: true })
      })
      const options = { ...fixture('forks-children', { CHILDREN: '1' }, 'socket'), isolation, stateDirectory }
      const pool = await createPool({ worker: processWorker(options), size: { min: 0, max: 1 } })
      onTestFinished(() => pool.close())
      const dead = new Promise((resolve) => {
        pool.on('worker.dead', resolve)
      })
      const lease = await pool.acquire('red')
      lease.release()
      const child = fixtureProcesses().find((pid) => childrenOf(pid).length === 0)!
      expect(child).not.toBe(lease.worker.pid)
      const thaw = await freeze(child)
      await pool.end('red')
      await dead
      const message = /^Processes [\d, ]+ of worker w1 could not be killed; the next start tries again$/
      expect(warn).toHaveBeenCalledExactlyOnceWith(expect.stringMatching(message), 'CorralWarning')
      const left = pool.stats().isolation?.left
      // In namespaces it may be known by their init, which waits for it.
      expect(left).toEqual(isolation === 'namespaces' ? expect.any(Array) : [child])
      const held = () => ['w', 'own/ledger'].flatMap((part) => readdirSync(join(stateDirectory, part)))
      expect(held()).not.toEqual([])
      thaw()
      await vi.waitUntil(() => pool.stats().isolation?.left === undefined, { timeout: 10_000 })
      await vi.waitUntil(() => held().length === 0, { timeout: 10_000 })
      await pool.close()
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
