import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { describe, expect, onTestFinished, test } from 'vitest'
import { processClock, readProcess } from '../../../src/runtime/process/_proc.ts'
import { endSession } from '../../../src/runtime/process/session.ts'
import { identify, readBootId } from '../../../src/runtime/process/state/identity.ts'
import { endProcesses } from '../../../src/runtime/process/state/sweep.ts'
import { fixtureMark, leavesNoProcess } from '../../_processes.ts'

leavesNoProcess()

/** A leader, and a job in a group of its own that stays in its session. */
async function startLeader() {
  const script = 'set -m; sleep 1000 >/dev/null 2>&1 & echo $!; read -r _; exit'
  const leader = spawn('bash', ['-c', script], { detached: true, env: { ...process.env, ...fixtureMark } })
  const [line] = (await once(createInterface(leader.stdout), 'line')) as [string]
  const job = Number(line)
  onTestFinished(() => {
    try {
      process.kill(job, 'SIGKILL')
    } catch {} // As it is to be.
  })
  return { leader, job }
}

/** The same, once the leader has exited. */
async function startJob() {
  const { leader, job } = await startLeader()
  leader.stdin.end()
  await once(leader, 'exit')
  return { leader: leader.pid!, job, lastSeen: processClock() }
}

describe.runIf(process.platform === 'linux')('a session whose leader has exited', () => {
  test('is ended, with what has a group of its own in it', async () => {
    const { leader, job, lastSeen } = await startJob()
    expect(await readProcess(job)).toMatchObject({ session: leader, group: job })
    expect(await endSession(leader, lastSeen)).toEqual([])
    expect((await readProcess(job))?.isZombie ?? true).toBe(true)
  })

  test('is left alone when it began since, and so is another one of that number', async () => {
    const { leader, job } = await startJob()
    expect(await endSession(leader, (await readProcess(job))!.startTime - 1)).toEqual([])
    expect(await readProcess(job)).toMatchObject({ isZombie: false })
  })

  test('that is empty is nobody else’s', async () => {
    const { leader, job, lastSeen } = await startJob()
    process.kill(job, 'SIGKILL')
    expect(await endSession(leader, lastSeen)).toEqual([])
  })
})

test.runIf(process.platform === 'linux')(
  'a session whose leader is in the ledger, and still runs, is ended with it',
  async () => {
    const { leader, job } = await startLeader()
    const found = { process: await identify(leader.pid!), bootId: await readBootId() }
    const exit = once(leader, 'exit')
    expect(await endProcesses({ name: 'w1', directory: '/nowhere/w1', cgroups: [], ...found })).toEqual([])
    expect(await exit).toEqual([null, 'SIGKILL'])
    expect((await readProcess(job))?.isZombie ?? true).toBe(true)
  },
)

test.runIf(process.platform === 'linux')('the clock of processes is never ahead of their start', async () => {
  const before = processClock()
  const child = spawn('sleep', ['1000'])
  const { startTime } = (await readProcess(child.pid!))!
  expect(before).toBeLessThanOrEqual(startTime)
  expect(startTime).toBeLessThanOrEqual(processClock())
  child.kill('SIGKILL')
  await once(child, 'exit')
})
