import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { emptyGroup, signalGroup, signalLeader } from '../../../src/runtime/process/group.ts'
import { fixtureMark, fixtureProcesses, leavesNoProcess } from '../../_processes.ts'

leavesNoProcess()

afterEach(() => {
  vi.restoreAllMocks()
})

describe('signals', () => {
  test.each([0, 1, -1, -5_000_000, Number.NaN, 1.5])('never go to group or process %s', (pid) => {
    const kill = vi.spyOn(process, 'kill').mockReturnValue(true)
    expect(signalGroup(pid, 'SIGKILL')).toBe(false)
    expect(signalLeader(pid, 'SIGKILL')).toBe(false)
    expect(kill).not.toHaveBeenCalled()
  })

  test('to a group that does not exist find nobody', () => {
    vi.spyOn(process, 'kill').mockImplementation(() => {
      throw Object.assign(new Error('no such process'), { code: 'ESRCH' })
    })
    expect(signalGroup(4_000_000, 0)).toBe(false)
  })
})

/** A child in the leader's group whose parent, in another group, never reaps it; the leader exits. */
const zombieMaker = `
import os, sys, time
if os.fork() == 0:
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    os.setpgid(0, 0)
    print(os.getpid(), flush=True)
    time.sleep(1000)
sys.stdin.read()
`
const hasPython = spawnSync('python3', ['-V']).status === 0

describe.runIf(process.platform === 'linux' && hasPython)('a group of zombies', () => {
  test('is empty', async () => {
    const env = { ...process.env, ...fixtureMark }
    const leader = spawn('python3', ['-c', zombieMaker], { detached: true, env, stdio: ['pipe', 'pipe', 'inherit'] })
    const [line] = (await once(createInterface(leader.stdout), 'line')) as [string]
    leader.stdin.end()
    await once(leader, 'exit')
    signalGroup(leader.pid!, 'SIGKILL')
    expect(await emptyGroup(leader.pid!)).toEqual([])
    expect(signalGroup(leader.pid!, 0)).toBe(true)
    process.kill(Number(line), 'SIGKILL')
    await vi.waitUntil(() => fixtureProcesses().length === 0)
  })
})

test('a group that is not there is empty', async () => {
  const child = spawn('true', { detached: true })
  await once(child, 'exit')
  expect(await emptyGroup(child.pid!)).toEqual([])
})

test.runIf(process.platform === 'linux')(
  'a group that will not die is given up, by the ids of its members',
  async () => {
    const child = spawn('sleep', ['1000'], { detached: true })
    let now = 0
    vi.spyOn(performance, 'now').mockImplementation(() => (now += 2_500))
    const kill = vi.spyOn(process, 'kill').mockReturnValue(true)
    expect(await emptyGroup(child.pid!)).toEqual([child.pid])
    expect(kill).toHaveBeenCalledWith(-child.pid!, 'SIGKILL')
    kill.mockRestore()
    child.kill('SIGKILL')
    await once(child, 'exit')
  },
)
