import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setImmediate as tick } from 'node:timers/promises'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { directSpawner, type SpawnRequest } from '../../../src/runtime/process/spawn/spawned-process.ts'
import { fixtureMark, fixtureProcesses, leavesNoProcess } from '../../_processes.ts'

leavesNoProcess()

async function start(args: readonly string[], signals: SpawnRequest['signals']) {
  const [command = '', ...rest] = args
  const env = { PATH: process.env['PATH'] ?? '', ...fixtureMark }
  const request = { command, args: rest, cwd: undefined, env, signals, session: 'left', filter: undefined } as const
  const child = await directSpawner.spawn(request, undefined)
  child.stderr.resume()
  return child
}

/** Starts a shell that tells what a wrapper does, and comes back once that has been read. */
async function startWrapper(script: string) {
  const child = await start(['sh', '-c', `${script}; echo up; exec sleep 1000`], 'wrapper')
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

describe('a process that has been sent SIGKILL', () => {
  /** Lets the time pass after which it is given up. */
  const passTime = () => void vi.advanceTimersByTime(10_000)

  test('is stuck when it has not ended ten seconds later, and is heard of again when it does', async () => {
    const child = await start(['sleep', '1000'], 'group')
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    onTestFinished(() => void vi.useRealTimers())
    const kill = vi.spyOn(process, 'kill').mockReturnValue(true)
    child.signal('group', 'SIGTERM')
    passTime()
    expect(await Promise.race([child.stuck, tick('no')])).toBe('no')
    child.signal('group', 'SIGKILL')
    passTime()
    await child.stuck
    kill.mockRestore()
    vi.useRealTimers()
    child.signal('group', 'SIGKILL')
    expect(await child.exit).toEqual({ exitCode: null, signal: 'SIGKILL' })
    expect(await child.emptied).toEqual([])
  })

  test.runIf(process.platform === 'linux' && process.geteuid?.() === 0)(
    'has ended when a debugger keeps that from its parent',
    async () => {
      const child = await start(['sleep', '1000'], 'group')
      const PTRACE_SEIZE = 0x4206
      const script =
        `import ctypes, sys; libc = ctypes.CDLL(None); ` +
        `print(libc.ptrace(${PTRACE_SEIZE}, ${child.pid}, 0, 0), flush=True); sys.stdin.read()`
      const tracer = spawn('python3', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'] })
      expect(await once(createInterface(tracer.stdout), 'line')).toEqual(['0'])
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
      onTestFinished(() => void vi.useRealTimers())
      child.signal('group', 'SIGKILL')
      const stat = () => readFileSync(`/proc/${child.pid}/stat`, 'latin1')
      while (!stat().includes(') Z ')) await tick()
      passTime()
      vi.useRealTimers()
      expect(await child.exit).toEqual({ exitCode: null, signal: 'SIGKILL' })
      expect(await child.emptied).toEqual([])
      expect(stat()).toContain(') Z ')
      tracer.stdin.end()
      await once(tracer, 'exit')
    },
  )
})
