import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { HelperSpawner } from '../../../src/runtime/process/spawn/helper-spawner.ts'
import { closeStateDirectory, openStateDirectory } from '../../../src/runtime/process/state/state-directory.ts'
import { usesBuild } from '../../_build.ts'
import { fixture, leavesNoProcess } from '../../_processes.ts'

usesBuild()
leavesNoProcess()

function parentOf(pid: number): number {
  return Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
}

test.runIf(process.platform === 'linux')(
  'a helper that answers no command, as when somebody has stopped it, is killed, and another one takes over',
  async () => {
    const state = await openStateDirectory(undefined)
    const spawner = await HelperSpawner.open(state, 1_000)
    onTestFinished(async () => {
      await spawner.close()
      await closeStateDirectory(state)
    })
    const { command, args, env } = fixture('ignores-sigterm', {}, 'socket')
    const request = {
      command: 'setpriv',
      args: ['--pdeathsig', 'KILL', '--', command, ...args, join(state.own, 's')],
      cwd: undefined,
      env: { PATH: process.env['PATH'] ?? '', ...env } as Record<string, string>,
      signals: 'group',
      filter: undefined,
    } as const
    const first = await spawner.spawn(request, undefined)
    const helper = parentOf(first.pid)
    process.kill(helper, 'SIGSTOP')
    first.signal('group', 'SIGKILL')
    expect(await first.exit).toEqual({ exitCode: null, signal: 'SIGKILL', fault: 'spawner' })
    const second = await spawner.spawn(request, undefined)
    expect(parentOf(second.pid)).not.toBe(helper)
    process.kill(parentOf(second.pid), 'SIGSTOP')
    const third = spawner.spawn(request, undefined)
    await expect(third).rejects.toThrow('The spawn helper died')
    await second.emptied
  },
)
