import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, statSync } from 'node:fs'
import { isAbsolute, resolve } from 'node:path'
import type { LaunchContext, WorkerInstance } from '../backend.ts'
import { reserveAddress } from './address.ts'
import type { ReservedAddress } from './address.ts'
import { createEnvironment } from './environment.ts'
import { ProcessInstance } from './instance.ts'
import type { ProcessSettings } from './options.ts'
import type { Template } from './template.ts'

/** Starts the process of one worker. Rejects, with nothing left behind, when it cannot be started or is not wanted. */
export async function launchProcess(
  settings: ProcessSettings,
  template: Template,
  { workerId, signal }: LaunchContext,
): Promise<WorkerInstance> {
  signal.throwIfAborted()
  const reserved = await reserveAddress(template.uses)
  try {
    signal.throwIfAborted()
    const { child, env } = spawnGroup(settings, template, workerId, reserved)
    // No await between the spawn and the instance: it has to hear of an exit however early.
    if (child.pid !== undefined) return new ProcessInstance(child, child.pid, { workerId, settings, reserved })
    const [error] = (await once(child, 'error')) as [NodeJS.ErrnoException]
    throw toLaunchError(error, settings, env.PATH)
  } catch (error) {
    await reserved.release()
    throw error
  }
}

function spawnGroup(settings: ProcessSettings, template: Template, workerId: string, reserved: ReservedAddress) {
  const { port, socket } = reserved
  const values = { id: workerId, ...(port !== undefined && { port }), ...(socket !== undefined && { socket }) }
  const { args, env: given } = template.render(values)
  const env = createEnvironment({ ...(port !== undefined && { PORT: String(port) }), ...given })
  try {
    const child: ChildProcess = spawn(settings.command, args, {
      cwd: settings.cwd,
      env,
      detached: true, // A process group of its own, so that all of it can be signalled.
      stdio: ['ignore', 'pipe', 'pipe'],
      windowsHide: true,
    })
    return { child, env }
  } catch (error) {
    throw toLaunchError(error as NodeJS.ErrnoException, settings, env.PATH)
  }
}

function toLaunchError(cause: NodeJS.ErrnoException, settings: ProcessSettings, path: string | undefined): Error {
  return new Error(`Cannot start ${JSON.stringify(settings.command)}: ${explain(cause, settings, path)}`, { cause })
}

function explain(cause: NodeJS.ErrnoException, { command, cwd }: ProcessSettings, path: string | undefined): string {
  // The system's error is the same whether the command or the directory is missing.
  if (cwd !== undefined && !isDirectory(cwd)) {
    return `its working directory ${JSON.stringify(cwd)} is not a directory; correct the option cwd`
  }
  const isPath = command.includes('/')
  if (cause.code === 'ENOENT' && isPath && exists(isAbsolute(command) ? command : resolve(cwd ?? '.', command))) {
    return 'the file exists, but the interpreter in its first line (#!) or its dynamic loader does not; install that'
  }
  if (cause.code === 'ENOENT') {
    return isPath
      ? 'there is no such file; correct the path, which is relative to the working directory'
      : `it is not in the worker's PATH${path === undefined ? ', which is not set' : ''}; install it, or give its path`
  }
  if (cause.code === 'EACCES') return 'it is not executable for this user; correct its permissions (chmod +x)'
  if (cause.code === 'EAGAIN')
    return 'the limit on processes is reached (EAGAIN); raise it (ulimit -u, pids limit of the cgroup)'
  if (cause.code === 'EMFILE') return 'the limit on open files is reached (EMFILE); raise it (ulimit -n)'
  return cause.message
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true
}

function exists(path: string): boolean {
  try {
    accessSync(path, constants.F_OK)
    return true
  } catch {
    return false
  }
}
