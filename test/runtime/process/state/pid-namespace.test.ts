import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { usesBuild } from '../../../_build.ts'
import { fixture, fixtureProcesses, leavesNoProcess } from '../../../_processes.ts'
import { identify } from '../../../../src/runtime/process/state/identity.ts'
import { closeStateDirectory, openStateDirectory } from '../../../../src/runtime/process/state/state-directory.ts'

usesBuild()
leavesNoProcess()

const script = fileURLToPath(new URL('../../../fixtures/supervisor.mjs', import.meta.url))

/** What a container has, as far as it matters here: this file system, and process ids of its own. */
const CONTAINER = ['--dev-bind', '/', '/', '--unshare-pid', '--proc', '/proc', '--die-with-parent']

function makeDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'shared-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** A supervisor with a session, in a PID namespace of its own. */
async function startElsewhere(options: object): Promise<ChildProcess> {
  const settings = JSON.stringify({ ...fixture('echo-server'), isolation: 'group', ...options })
  const container = spawn('bwrap', [...CONTAINER, process.execPath, script, settings], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void container.kill('SIGKILL'))
  await once(createInterface(container.stdout), 'line')
  return container
}

/** With all that is in it. */
async function end(container: ChildProcess): Promise<void> {
  const closed = once(container, 'close') // Its output, which the supervisor has as well.
  container.kill('SIGKILL')
  await closed
  await vi.waitUntil(() => fixtureProcesses().length === 0, { timeout: 15_000 })
}

/** Without those that are being written: it may be starting another worker. */
function recordsIn(directory: string): string[] {
  return readdirSync(join(directory, 'own', 'ledger')).filter((name) => name.endsWith('.json'))
}

function presencesIn(own: string): string[] {
  return readdirSync(own).filter((name) => name.startsWith('up.'))
}

describe.runIf(process.platform === 'linux')('a state directory of a supervisor in another PID namespace', () => {
  test('is in use for as long as that lives, and taken and swept after', async () => {
    const stateDirectory = makeDirectory()
    const container = await startElsewhere({ stateDirectory })
    const [running, records] = [fixtureProcesses(), recordsIn(stateDirectory)]
    await expect(openStateDirectory(stateDirectory)).rejects.toMatchObject({
      code: 'STATE_DIRECTORY_IN_USE',
      message: expect.stringContaining(`answers at "${stateDirectory}/own/up.`) as string,
    })
    expect(fixtureProcesses()).toEqual(expect.arrayContaining(running))
    expect(recordsIn(stateDirectory)).toEqual(expect.arrayContaining(records))
    await end(container)
    const state = await openStateDirectory(stateDirectory)
    expect([recordsIn(stateDirectory), readdirSync(state.workers)]).toEqual([[], []])
    await closeStateDirectory(state)
    expect(presencesIn(state.own)).toEqual([])
  })

  test('is left alone when it is private, for as long as that lives, and removed after', async () => {
    const temporary = makeDirectory()
    vi.stubEnv('TMPDIR', temporary)
    onTestFinished(() => void vi.unstubAllEnvs())
    const container = await startElsewhere({})
    const [running, [name]] = [fixtureProcesses(), readdirSync(temporary)]
    await closeStateDirectory(await openStateDirectory(undefined))
    expect(fixtureProcesses()).toEqual(expect.arrayContaining(running))
    expect(readdirSync(temporary)).toEqual([name])
    await end(container)
    await closeStateDirectory(await openStateDirectory(undefined))
    expect(readdirSync(temporary)).toEqual([])
  })

  test('is taken when that is dead, though its id is that of a process here', async () => {
    const stateDirectory = makeDirectory()
    await closeStateDirectory(await openStateDirectory(stateDirectory))
    const lock = join(stateDirectory, 'lock.1')
    expect(readFileSync(lock, 'utf8')).toBe('null')
    writeFileSync(lock, JSON.stringify({ ...(await identify(process.pid)), pidNamespace: 'pid:[1]' }))
    const state = await openStateDirectory(stateDirectory)
    expect(state.generation).toBe(2)
    await closeStateDirectory(state)
  })
})
