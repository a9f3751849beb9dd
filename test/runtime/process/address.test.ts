import { afterEach, describe, expect, test, vi } from 'vitest'
import type GetPort from 'get-port'
import { reserveAddress } from '../../../src/runtime/process/address.ts'
import { fixture, leavesNoProcess } from '../../_processes.ts'
import { launch, portOf } from './_launch.ts'

leavesNoProcess()

const offered = vi.hoisted((): number[] => [])

vi.mock('get-port', async (importOriginal) => {
  const original = await importOriginal<{ default: typeof GetPort }>()
  return { default: (options: object) => offered.shift() ?? original.default(options) }
})

afterEach(() => {
  offered.length = 0
})

const port = new Set(['port'])

describe('a port', () => {
  test('is not given out twice while it is held', async () => {
    offered.push(50_001, 50_001, 50_001, 50_002)
    const [first, second] = await Promise.all([reserveAddress(port, undefined), reserveAddress(port, undefined)])
    expect([first.port, second.port]).toEqual([50_001, 50_002])
    await Promise.all([first.release(), second.release()])
  })

  test('is given out again after it was given back', async () => {
    offered.push(50_001, 50_001)
    const first = await reserveAddress(port, undefined)
    await first.release()
    const second = await reserveAddress(port, undefined)
    expect(second.port).toBe(50_001)
    await second.release()
  })

  test('is given back only after the process is gone', async () => {
    offered.push(50_003, 50_003, 50_004)
    const worker = await launch(fixture('never-ready'))
    expect(portOf(worker)).toBe(50_003)
    const during = await reserveAddress(port, undefined)
    expect(during.port).toBe(50_004)
    worker.kill()
    await worker.exited
    offered.push(50_003)
    const after = await reserveAddress(port, undefined)
    expect(after.port).toBe(50_003)
    await Promise.all([during.release(), after.release()])
  })

  test('is given back when the command cannot be started', async () => {
    offered.push(50_005)
    await expect(launch({ command: './missing' })).rejects.toThrow('Cannot start')
    offered.push(50_005)
    const after = await reserveAddress(port, undefined)
    expect(after.port).toBe(50_005)
    await after.release()
  })
})

test('many at once are all different', async () => {
  const all = await Promise.all(Array.from({ length: 200 }, () => reserveAddress(port, undefined)))
  expect(new Set(all.map(({ port }) => port)).size).toBe(200)
  await Promise.all(all.map((address) => address.release()))
})
