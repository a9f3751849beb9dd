import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setImmediate as tick } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { directSpawner } from '../../../src/runtime/process/spawn/spawned-process.ts'
import { fixtureMark, fixtureProcesses, leavesNoProcess } from '../../_processes.ts'

leavesNoProcess()

/** Starts a shell that tells what a wrapper does, and comes back once that has been read. */
async function startWrapper(script: string) {
  const child = await directSpawner.spawn(
    {
      command: 'sh',
      args: ['-c', `${script}; echo up; exec sleep 1000`],
      cwd: undefined,
      env: { PATH: process.env['PATH'] ?? '', ...fixtureMark },
      signals: 'wrapper',
      filter: undefined,
    },
    undefined,
  )
  child.stderr.resume()
  await once(child.stdout.resume(), 'data')
  await tick() // What was told before came in with it, but may be read behind it.
  return child
}

describe.runIf(process.platform === 'linux')('a wrapper that is killed', () => {
  test('takes its init along, also one that has no parent-death signal yet', async () => {
    const wrapper = await startWrapper(`setsid sleep 1000 & echo '{ "child-pid": '$!' }' >&3`)
    process.kill(wrapper.pid, 'SIGKILL')
    expect(await wrapper.emptied).toEqual([])
    expect(fixtureProcesses()).toEqual([])
  })

  test('costs nothing to a process that is not its init, and has the id that was told', async () => {
    const bystander = spawn('sleep', ['1000'], { detached: true, env: { ...process.env, ...fixtureMark } })
    onTestFinished(async () => {
      bystander.kill('SIGKILL')
      await once(bystander, 'exit')
    })
    const wrapper = await startWrapper(`echo '{ "child-pid": ${bystander.pid} }' >&3`)
    wrapper.signal('group', 'SIGKILL')
    expect(await wrapper.emptied).toEqual([])
    expect(fixtureProcesses()).toEqual([bystander.pid])
    expect(bystander.exitCode ?? bystander.signalCode).toBeNull()
  })
})
