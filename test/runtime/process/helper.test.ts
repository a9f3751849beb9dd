import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as tick } from 'node:timers/promises'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { createPool, processWorker, type ProcessWorkerOptions } from 'corral'
import { openHost } from '../../../src/runtime/process/host.ts'
import { launchProcess } from '../../../src/runtime/process/launch.ts'
import { processWorkerOptions } from '../../../src/runtime/process/options.ts'
import type { Remains } from '../../../src/runtime/process/remains.ts'
import { HelperSpawner } from '../../../src/runtime/process/spawn/helper-spawner.ts'
import { closeStateDirectory, openStateDirectory } from '../../../src/runtime/process/state/state-directory.ts'
import { parseTemplate } from '../../../src/runtime/process/template.ts'
import { validate } from '../../../src/runtime/validate.ts'
import { usesBuild } from '../../_build.ts'
import { fixture, fixtureMark, leavesNoProcess } from '../../_processes.ts'
import { signal } from '../../adapters/h3/_scene.ts'
import { never } from './_launch.ts'

usesBuild()
leavesNoProcess()

function parentOf(pid: number): number {
  return Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
}

test.runIf(process.platform === 'linux')(
  'a state directory too long for sockets is refused, and nothing is left',
  async () => {
    const directory = mkdtempSync(join(tmpdir(), 'long-'))
    onTestFinished(() => {
      vi.unstubAllEnvs()
      rmSync(directory, { recursive: true })
    })
    const long = join(directory, 'd'.repeat(100))
    const start = (options: Partial<ProcessWorkerOptions>) =>
      createPool({ worker: processWorker({ ...fixture('echo-server'), ...options }), size: { min: 0, max: 1 } })
    const refusal = { code: 'INVALID_OPTION', message: expect.stringMatching(/path has at most \d+ bytes.*long-/) }
    await expect(start({ stateDirectory: long })).rejects.toMatchObject(refusal)
    expect(readdirSync(directory)).toEqual(['d'.repeat(100)])
    vi.stubEnv('TMPDIR', long)
    await expect(start({})).rejects.toMatchObject(refusal)
    expect(readdirSync(directory)).toEqual(['d'.repeat(100)])
    expect(readdirSync(long).filter((name) => name.startsWith('corral-'))).toEqual([])
  },
)

describe.runIf(process.platform === 'linux')('a worker at level none is started', () => {
  async function parentOfWorker(options: Partial<ProcessWorkerOptions>): Promise<number> {
    const backend = processWorker({ ...fixture('echo-server'), isolation: 'none', ...options })
    const pool = await createPool({ worker: backend, size: { min: 0, max: 1 } })
    onTestFinished(() => pool.close())
    using lease = await pool.acquire('red')
    return parentOf(lease.worker.pid!)
  }

  test('by this process, when it has no limit, however that is said', async () => {
    expect(await parentOfWorker({})).toBe(process.pid)
    expect(await parentOfWorker({ limits: { memory: undefined, disk: undefined } })).toBe(process.pid)
  })

  test('by a helper, when it has a limit, or a state directory is named', async () => {
    expect(await parentOfWorker({ limits: { files: 100 } })).not.toBe(process.pid)
    const stateDirectory = mkdtempSync(join(tmpdir(), 'helper-'))
    onTestFinished(() => rmSync(stateDirectory, { recursive: true }))
    expect(await parentOfWorker({ stateDirectory })).not.toBe(process.pid)
    expect(readdirSync(stateDirectory)).toContain('own')
  })
})

/** The local addresses, as /proc writes them, that a process listens at by TCP. */
function listeners(pid: number): string[] {
  const open = new Set(readdirSync(`/proc/${pid}/fd`).map((fd) => link(`/proc/${pid}/fd/${fd}`)))
  const rows = readFileSync(`/proc/${pid}/net/tcp`, 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
  return rows.flatMap(([, address = '', , state, , , , , , inode]) =>
    state === '0A' && open.has(`socket:[${inode}]`) ? [address] : [],
  )
}

function link(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return '' // Closed in the meantime.
  }
}

test.runIf(process.platform === 'linux')('no signal opens the inspector of the helper', async () => {
  const pool = await createPool({ worker: processWorker(fixture('echo-server')), size: { min: 0, max: 2 } })
  onTestFinished(() => pool.close())
  using red = await pool.acquire('red')
  const helper = parentOf(red.worker.pid!)
  process.kill(helper, 'SIGUSR1')
  // It has heard of it by the time that another worker is ready.
  using blue = await pool.acquire('blue')
  expect(parentOf(blue.worker.pid!)).toBe(helper)
  expect(listeners(helper)).toEqual([])
})

describe.runIf(process.platform === 'linux')(
  'a helper that answers no command, as when somebody has stopped it,',
  () => {
    const killed = { exitCode: null, signal: 'SIGKILL' }
    const lost = { ...killed, fault: 'spawner' }

    async function open(answer: number) {
      const state = await openStateDirectory(undefined)
      const spawner = await HelperSpawner.open(state, undefined, { start: 15_000, answer })
      onTestFinished(async () => {
        await spawner.close()
        await closeStateDirectory(state)
      })
      const request = {
        command: 'setpriv',
        args: ['--pdeathsig', 'KILL', '--', 'sleep', '600'],
        cwd: undefined,
        env: { PATH: process.env['PATH'] ?? '', ...fixtureMark },
        signals: 'group',
        session: 'left',
        filter: undefined,
      } as const
      return { spawn: (signal?: AbortSignal) => spawner.spawn(request, undefined, signal) }
    }

    function spyOnWarnings() {
      const warn = vi.spyOn(process, 'emitWarning').mockReturnValue()
      onTestFinished(() => warn.mockRestore())
      return warn
    }

    test('is killed, which a warning tells, and another one takes over', async () => {
      const warn = spyOnWarnings()
      const { spawn } = await open(1_500)
      const first = await spawn()
      const helper = parentOf(first.pid)
      process.kill(helper, 'SIGSTOP')
      first.signal('group', 'SIGTERM')
      expect(await first.exit).toEqual(lost)
      const told = 'The spawn helper said nothing for 1.5 s, and was killed: somebody may have stopped it'
      expect(warn.mock.calls).toEqual([[told, 'CorralWarning']])
      const second = await spawn()
      expect(parentOf(second.pid)).not.toBe(helper)
      process.kill(parentOf(second.pid), 'SIGSTOP')
      await expect(spawn()).rejects.toThrow('The spawn helper died')
      await second.emptied
    })

    test('is not killed for an answer that this process has not come to read', async () => {
      const warn = spyOnWarnings()
      const { spawn } = await open(1_000)
      const worker = await spawn()
      worker.signal('group', 'SIGKILL')
      // As if it had been stopped meanwhile.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_500)
      expect(await worker.exit).toEqual(killed)
      expect(warn.mock.calls).toEqual([])
    })

    test('is killed sooner when all of its processes are to be killed or not wanted any more, and not before', async () => {
      const warn = spyOnWarnings()
      const [red, blue] = await Promise.all([open(600_000), open(600_000)])
      const [dying, wanted, other] = await Promise.all([red.spawn(), red.spawn(), blue.spawn()])
      process.kill(parentOf(wanted.pid), 'SIGSTOP')
      dying.signal('group', 'SIGKILL')
      process.kill(parentOf(other.pid), 'SIGSTOP')
      const controller = new AbortController()
      const unwanted = blue.spawn(controller.signal)
      other.signal('group', 'SIGKILL')
      await tick() // Its start has been asked for by then.
      controller.abort()
      await expect(unwanted).rejects.toThrow('The spawn helper died')
      expect(await other.exit).toEqual(lost)
      expect(warn.mock.calls).toEqual([
        ['The spawn helper did not answer, and was killed: somebody has stopped it', 'CorralWarning'],
      ])
      // It was looked at before the other one.
      process.kill(parentOf(wanted.pid), 'SIGCONT')
      expect(await dying.exit).toEqual(killed)
      wanted.signal('group', 'SIGKILL')
      expect(await wanted.exit).toEqual(killed)
    })
  },
)

test.runIf(process.platform === 'linux')(
  'a socket for output that is removed while a worker starts is told from a program and a directory that are missing',
  async () => {
    const launchWith = async (
      options: { command?: string; args?: string[]; cwd?: string },
      interfere: (output: string) => void = () => {},
      signal = never,
    ) => {
      const settings = validate(processWorkerOptions, { ...fixture('echo-server'), ...options })
      const template = parseTemplate(settings.args, settings.env)
      const host = await openHost({ ...settings, uses: template.uses })
      onTestFinished(() => host.close())
      // After the last look at what is there.
      const own = join(host.root!, 'own')
      const output = readdirSync(own).find((name) => name.startsWith('out.')) ?? ''
      const mend = async () => interfere(join(own, output))
      const setup = { settings, template, host: { ...host, mend }, left: new Set<Remains>() }
      return launchProcess(setup, { workerId: 'w1', signal })
    }
    await expect(launchWith({}, rmSync)).rejects.toMatchObject({
      message: expect.stringContaining('the socket for its output, in the state directory, cannot be reached (ENOENT)'),
      cause: { syscall: 'connect' },
    })
    await expect(launchWith({ command: 'no-such-command' })).rejects.toThrow("it is not in the worker's PATH")
    for (const cwd of ['/no/such', '/etc/passwd', '/etc/passwd/below']) {
      await expect(launchWith({ cwd })).rejects.toThrow(`its working directory "${cwd}" is not a directory`)
    }
    const greeted = Array.from({ length: 4 }, () => signal())
    let connections = 0
    const takeOver = (output: string) => {
      rmSync(output)
      const other = createServer(() => greeted[connections++]?.resolve()).listen(output)
      onTestFinished(() => void other.close())
    }
    await expect(launchWith({ command: 'true', args: [] }, takeOver)).rejects.toThrow('Its output never came')
    // As where this process has no descriptors left. None of it may end the helper, and all workers with it.
    const refuse = (output: string) => {
      rmSync(output)
      const other = createServer((socket) => socket.destroy()).listen(output)
      onTestFinished(() => void other.close())
    }
    for (let i = 0; i < 3; i++)
      await expect(launchWith({ command: 'true', args: [] }, refuse)).rejects.toThrow(
        /output (?:could not be connected|never came).* \(ulimit -n\)/,
      )
    // One that would run on is ended when nobody waits for it any more.
    const patience = new AbortController()
    const running = launchWith({}, takeOver, patience.signal)
    await Promise.all(greeted.map(({ promise }) => promise))
    patience.abort()
    await expect(running).rejects.toThrow('Its output never came')
  },
)
