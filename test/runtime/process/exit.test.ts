import { once } from 'node:events'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { readProcess } from '../../../src/runtime/process/_proc.ts'
import { fixture, fixtureProcesses, leavesNoProcess } from '../../_processes.ts'
import { getJson, launch, launchReady, never, portOf, provoke, recordOutput } from './_launch.ts'

leavesNoProcess()

afterEach(() => {
  vi.restoreAllMocks()
})

interface Family {
  pid: number
  children: number[]
  daemons: number[]
}

describe('stop', () => {
  test('asks politely with SIGTERM', async () => {
    const worker = await launchReady(fixture('echo-server', { EXIT_CODE: '3' }))
    worker.stop()
    expect(await worker.exited).toEqual({ exitCode: 3, signal: null })
  })

  test('asks with the signal of the options', async () => {
    const worker = await launchReady({ ...fixture('echo-server'), stop: { signal: 'SIGHUP' } })
    worker.stop()
    expect(await worker.exited).toEqual({ exitCode: null, signal: 'SIGHUP' })
  })

  test('asks the whole group, so that a shell around the worker does not swallow it', async () => {
    const { command, args, env } = fixture('echo-server')
    const worker = await launchReady({ command: 'sh', args: ['-c', '"$@"; exit 5', 'sh', command, ...args], env })
    worker.stop()
    await worker.exited
    expect(fixtureProcesses()).toEqual([])
  })

  test('asks the leader alone with target "leader"', async () => {
    const worker = await launchReady({ ...fixture('forks-children'), stop: { target: 'leader' } })
    const kill = vi.spyOn(process, 'kill')
    worker.stop()
    expect(kill.mock.calls).toEqual([[worker.pid, 'SIGTERM']])
    expect(await worker.exited).toEqual({ exitCode: 0, signal: null })
  })

  test('lets a worker wait for its children', async () => {
    const worker = await launchReady(fixture('forks-children', { POLITE: '1' }))
    worker.stop()
    expect(await worker.exited).toEqual({ exitCode: 0, signal: null })
  })

  test.runIf(process.platform === 'linux').each(['none', 'group'] as const)(
    'at %s is the end of jobs, too, which a shell has put in groups of their own',
    async (isolation) => {
      const { command, args, env } = fixture('echo-server')
      const { onOutput, find } = recordOutput()
      const script = 'set -m; env -i sleep 1000 >/dev/null 2>&1 & echo "job $!"; exec "$@"'
      const worker = await launchReady({
        command: 'bash',
        args: ['-c', script, 'bash', command, ...args],
        env,
        isolation,
        onOutput,
      })
      const job = Number((await find(/^job /)).slice('job '.length))
      expect(await readProcess(job)).toMatchObject({ isZombie: false, group: job, session: worker.pid })
      worker.stop()
      await worker.exited
      expect((await readProcess(job))?.isZombie ?? true).toBe(true)
    },
  )

  test('may be ignored, and kill may not', async () => {
    const { onOutput, find } = recordOutput()
    const worker = await launchReady({ ...fixture('ignores-sigterm'), onOutput })
    worker.stop()
    await find(/ignored SIGTERM/)
    await expect(worker.check!(never)).resolves.toBeUndefined()
    worker.kill()
    expect(await worker.exited).toEqual({ exitCode: null, signal: 'SIGKILL' })
  })

  test('and kill may be called again, before and after the exit', async () => {
    const worker = await launchReady(fixture('echo-server'))
    worker.stop()
    worker.stop()
    worker.kill()
    worker.kill()
    await worker.exited
    expect(() => {
      worker.stop()
      worker.kill()
    }).not.toThrow()
  })

  test('and kill signal nobody once the worker is gone, whose id may be another process by then', async () => {
    const worker = await launchReady(fixture('echo-server'))
    worker.kill()
    await worker.exited
    const kill = vi.spyOn(process, 'kill')
    worker.stop()
    worker.kill()
    expect(kill).not.toHaveBeenCalled()
  })
})

describe('exited', () => {
  test('reports the status of an exit on its own', async () => {
    const worker = await launchReady(fixture('echo-server'))
    expect(await provoke(worker, '/crash?code=9')).toEqual({ exitCode: 9, signal: null })
  })

  test.each(['SIGINT', 'SIGUSR2', 'SIGKILL'])('reports the name of %s', async (signal) => {
    const worker = await launchReady(fixture('echo-server'))
    expect(await provoke(worker, `/crash?signal=${signal}`)).toEqual({ exitCode: null, signal })
  })

  test('resolves for a frozen worker that was killed', async () => {
    const worker = await launchReady(fixture('freezes'))
    await fetch(`http://127.0.0.1:${portOf(worker)}/freeze`)
    worker.stop()
    worker.kill()
    expect(await worker.exited).toMatchObject({ signal: 'SIGKILL' })
  })
})

describe.runIf(process.platform === 'linux')('the group', () => {
  test('is killed as a whole', async () => {
    const worker = await launchReady(fixture('forks-children', { STUBBORN: '1', CHILDREN: '3' }))
    expect(fixtureProcesses()).toHaveLength(4)
    worker.kill()
    await worker.exited
    expect(fixtureProcesses()).toEqual([])
  })

  test.each(['/exit?code=2', '/exit'])('is killed when its leader exits on its own: %s', async (path) => {
    const worker = await launchReady(fixture('forks-children', { STUBBORN: '1' }))
    await provoke(worker, path)
    expect(fixtureProcesses()).toEqual([])
  })

  test('is killed when its leader exits after a polite stop', async () => {
    const worker = await launchReady(fixture('forks-children', { STUBBORN: '1' }))
    worker.stop()
    expect(await worker.exited).toEqual({ exitCode: 0, signal: null })
    expect(fixtureProcesses()).toEqual([])
  })

  test('does not hold up the exit with a daemon that left it and holds the pipes', async () => {
    const worker = await launchReady({
      ...fixture('forks-children', { CHILDREN: '1', DAEMONS: '1' }),
      isolation: 'none',
    })
    const { daemons } = await getJson<Family>(worker, '/')
    worker.kill()
    await worker.exited
    expect(fixtureProcesses()).toEqual(daemons)
    process.kill(daemons[0]!, 'SIGKILL')
    await vi.waitUntil(() => fixtureProcesses().length === 0)
  })
})

describe('output', () => {
  test.each([
    ['on its own', (worker: Awaited<ReturnType<typeof launch>>) => provoke(worker, '/exit?code=1')],
    [
      'when asked',
      (worker: Awaited<ReturnType<typeof launch>>) => {
        worker.stop()
        return worker.exited
      },
    ],
  ])('has the very last words of a worker that exits %s', async (_title, end) => {
    const worker = await launchReady(fixture('writes-last-words', { LAST_WORDS: '5000' }))
    await end(worker)
    expect(worker.output!()).toHaveLength(50)
    expect(worker.output!().at(-1)).toBe('last word 5000')
  })

  test('has the last words of a worker that never came up', async () => {
    const worker = await launch(fixture('writes-last-words', { AT_START: '1' }))
    await worker.exited
    expect(worker.output!()).toEqual(Array.from({ length: 10 }, (_, index) => `last word ${index + 1}`))
  })

  test('is that of stdout when stderr is silent', async () => {
    const worker = await launch(fixture('writes-last-words', { AT_START: '1', STREAM: 'stdout' }))
    await worker.exited
    expect(worker.output!().at(-1)).toBe('last word 10')
  })

  test('is the unfinished line too, while the worker runs', async () => {
    const options = fixture('prints-ready', { READY_LINE: 'name? ', NO_NEWLINE: '1' })
    const worker = await launchReady({ ...options, health: { line: 'name?' } })
    expect(worker.output!()).toEqual(['starting', 'name? '])
  })

  test('is always read: a worker that floods both pipes gets to serve', async () => {
    const worker = await launchReady(fixture('floods-stdout', { FLOOD_BYTES: '5000000' }))
    expect(worker.output!()).toHaveLength(50)
    expect(worker.output!().at(-1)).toBe('flood over')
  })

  test('is bounded: a line of 10 MiB is cut, and the next one is whole', async () => {
    const worker = await launchReady(fixture('ten-megabyte-line'))
    expect(worker.output!()).toEqual([`${'x'.repeat(2048)}…`, 'after the long line'])
  })
})

describe('onOutput', () => {
  test('gets the lines of both streams with their source, the unfinished last one too', async () => {
    const { onOutput, lines } = recordOutput()
    const worker = await launch({ ...fixture('writes-last-words', { AT_START: '1', LAST_WORDS: '2' }), onOutput }, 'w3')
    await worker.exited
    const source = { stream: 'stderr', workerId: 'w3', pid: worker.pid }
    expect(lines).toEqual([
      { line: 'last word 1', ...source },
      { line: 'last word 2', ...source },
    ])
  })

  test.each([
    [
      'throws',
      () => {
        throw new Error('broken log')
      },
    ],
    ['rejects', async () => Promise.reject(new Error('broken log'))],
  ])('that %s is warned of once and hurts nobody', async (_title, onOutput) => {
    const warned = once(process, 'warning')
    const emitWarning = vi.spyOn(process, 'emitWarning')
    const worker = await launch({
      ...fixture('writes-last-words', { AT_START: '1' }),
      onOutput: (): unknown => onOutput(),
    })
    expect(await worker.exited).toMatchObject({ exitCode: 1 })
    expect(worker.output!()).toHaveLength(10)
    expect(await warned).toMatchObject([{ name: 'CorralWarning', message: 'onOutput failed: broken log' }])
    expect(emitWarning).toHaveBeenCalledTimes(1)
  })
})

describe('when the parent process exits', () => {
  test('live groups are killed, by one listener that is there only while there are any', async () => {
    const before = process.listeners('exit')
    const workers = await Promise.all([launchReady(fixture('ignores-sigterm')), launchReady(fixture('echo-server'))])
    const added = process.listeners('exit').filter((listener) => !before.includes(listener))
    expect(added).toHaveLength(1)
    added[0]!(0)
    const exits = await Promise.all(workers.map(({ exited }) => exited))
    expect(exits.map(({ signal }) => signal)).toEqual(['SIGKILL', 'SIGKILL'])
    expect(process.listeners('exit')).toEqual(before)
  })
})
