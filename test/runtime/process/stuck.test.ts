import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { createPool } from '../../../src/runtime/create-pool.ts'
import type { Pool } from '../../../src/runtime/pool.ts'
import { childrenOf } from '../../../src/runtime/process/_proc.ts'
import { processWorker } from '../../../src/runtime/process/index.ts'
import { usesBuild } from '../../_build.ts'
import { fixture, leavesNoProcess } from '../../_processes.ts'
import { canFreeze, freeze } from './_cgroups.ts'

usesBuild()
leavesNoProcess()

const levels = ['none', 'group', 'namespaces'] as const

/** At once, as each of them takes the ten seconds after which a worker is given up. */
async function atEachLevel(check: (isolation: (typeof levels)[number]) => Promise<void>): Promise<void> {
  await Promise.all(levels.map(check))
}

function spyOnWarnings() {
  const warn = vi.spyOn(process, 'emitWarning').mockReturnValue()
  onTestFinished(() => warn.mockRestore())
  return warn
}

function deathIn(pool: Pool): Promise<unknown> {
  return new Promise((resolve) => {
    pool.on('worker.dead', resolve)
  })
}

/** Where each has one child. */
function lastDescendant(pid: number): number {
  const [child] = childrenOf(pid)
  return child === undefined ? pid : lastDescendant(child)
}

describe.runIf(await canFreeze())('a worker that SIGKILL does not end', () => {
  test('makes room for the next one, keeps what it may still use, and is cleaned up after when it ends after all', async () => {
    const warn = spyOnWarnings()
    await atEachLevel(async (isolation) => {
      const worker = processWorker({ ...fixture('echo-server', {}, 'socket'), isolation, stop: { grace: 100 } })
      await using pool = await createPool({ worker, size: { min: 0, max: 1 } })
      const dead = deathIn(pool)
      const lease = await pool.acquire('red')
      const { pid, address } = lease.worker
      lease.release()
      const socket = 'socketPath' in address ? address.socketPath : ''
      const thaw = await freeze(pid!)
      await pool.end('red')
      expect(await dead).toMatchObject({ reason: 'stopped', exitCode: null, signal: null })
      expect(warn).toHaveBeenCalledWith(
        expect.stringContaining(`Processes ${pid} of worker w1 could not be killed`),
        'CorralWarning',
      )
      expect(pool.stats().isolation?.left).toEqual([pid])
      expect(existsSync(dirname(socket))).toBe(true)
      using next = await pool.acquire('blue')
      expect(next.worker.id).not.toBe('w1')
      thaw()
      await vi.waitUntil(() => pool.stats().isolation?.left === undefined, { timeout: 10_000 })
      await vi.waitUntil(() => !existsSync(dirname(socket)), { timeout: 10_000 })
    })
    expect(warn).toHaveBeenCalledTimes(levels.length)
  }, 60_000)

  test('is cleaned up after, too, when it is only a child of one that has ended', async () => {
    const warn = spyOnWarnings()
    await atEachLevel(async (isolation) => {
      const stateDirectory = mkdtempSync(join(tmpdir(), 'stuck-'))
      onTestFinished(() => rmSync(stateDirectory, { recursive: true }))
      const options = { ...fixture('forks-children', { CHILDREN: '1' }, 'socket'), isolation, stateDirectory }
      const pool = await createPool({ worker: processWorker(options), size: { min: 0, max: 1 } })
      onTestFinished(() => pool.close())
      const dead = deathIn(pool)
      const lease = await pool.acquire('red')
      lease.release()
      const child = lastDescendant(lease.worker.pid!)
      expect(child).not.toBe(lease.worker.pid)
      const thaw = await freeze(child)
      await pool.end('red')
      await dead
      const left = pool.stats().isolation?.left
      // In namespaces it may be known by their init, which waits for it.
      expect(left).toEqual(isolation === 'namespaces' ? expect.any(Array) : [child])
      const held = () => ['w', 'own/ledger'].flatMap((part) => readdirSync(join(stateDirectory, part)))
      expect(held()).not.toEqual([])
      thaw()
      await vi.waitUntil(() => pool.stats().isolation?.left === undefined, { timeout: 10_000 })
      await vi.waitUntil(() => held().length === 0, { timeout: 10_000 })
      await pool.close()
    })
    const message = /^Processes [\d, ]+ of worker w1 could not be killed; the next start tries again$/
    const told = warn.mock.calls.map(([text]) => text)
    expect(told).toEqual(levels.map(() => expect.stringMatching(message) as string))
  }, 60_000)

  test('does not keep the pool from closing, nor the next start from removing what is left', async () => {
    spyOnWarnings()
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
