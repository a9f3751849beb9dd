import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { readdir, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { toFailure } from '../../../machines/failure.ts'
import { WorkerStartError } from '../../errors.ts'
import { readProcessNow } from '../_proc.ts'
import { atExit } from '../at-exit.ts'
import { createEnvironment } from '../environment.ts'
import { signalGroup } from '../group.ts'
import { rejectOnAbort } from '../health.ts'
import type { LedgerEntry } from '../state/ledger.ts'
import { usableDirectory, type StateDirectory } from '../state/state-directory.ts'
import { endProcesses } from '../state/sweep.ts'
import { OutputServer } from './output-server.ts'
import type { HelperCommand, HelperFact, HelperSetup, SystemError } from './protocol.ts'
import type { ProcessEnd, SpawnedProcess, Spawner, SpawnRequest } from './spawned-process.ts'

/** The built file: this process may run from sources, which the helper cannot. */
function helperFile(): string {
  return createRequire(import.meta.url).resolve('#spawn-helper')
}

/** The socket through which the output of workers comes is called so, with a name of its own behind it. */
const OUTPUT = 'out.'
/** So that no signal opens Node's inspector, not even before the helper runs; Node 20 and older ones of 22 do not know it. */
function nodeFlags(): string[] {
  const flag = '--disable-sigusr1'
  return process.allowedNodeEnvironmentFlags.has(flag) ? [flag] : []
}

/** How long the helper may be silent, in milliseconds. */
export interface Patience {
  /** Until it is ready. Within the default of the time that a worker has to start, so that this is what its failure tells. */
  readonly start: number
  /** Upon a command: long enough for a machine that thrashes. */
  readonly answer: number
}

const PATIENCE: Patience = { start: 15_000, answer: 30_000 }
/** What it takes for an answer where there is no need to wait longer for one, in milliseconds. */
const ANSWER_TIME = 1_000

/**
 * Starts processes through a small helper process, which stays while this is open and is started anew when it dies: its
 * workers die with it, as their parent-death signals come from there. One that does not get ready, or does not answer, as when
 * somebody has stopped it, is killed: it can neither start nor end anything. That takes no patience when it is seen to be
 * stopped, and all of its processes are to be killed anyway.
 */
export class HelperSpawner implements Spawner {
  readonly #setup: HelperSetup
  readonly #outputs: OutputServer
  readonly #patience: Patience
  #helper: Helper | undefined

  private constructor(state: StateDirectory, outputs: OutputServer, output: string, patience: Patience) {
    this.#patience = patience
    const { ledger: _ledger, ...rest } = state
    this.#setup = { output, state: rest }
    this.#outputs = outputs
  }

  /** Resolves once the helper is there. Rejects, with nothing left behind, when it cannot be, or as soon as `signal` aborts. */
  static async open(
    state: StateDirectory,
    signal?: AbortSignal,
    patience: Patience = PATIENCE,
  ): Promise<HelperSpawner> {
    await usableDirectory(state.path, () => removeOutputs(state.own))
    // Not by a number: whoever has the directory after it was removed under this one may have the same.
    const output = join(state.own, `${OUTPUT}${randomBytes(4).toString('hex')}`)
    const spawner = new HelperSpawner(state, await OutputServer.listen(output), output, patience)
    try {
      await spawner.#running(signal)
      return spawner
    } catch (error) {
      await spawner.close()
      throw error
    }
  }

  /** Puts back what of it has been removed from the state directory. Not twice at once. */
  mend(): Promise<void> {
    return this.#outputs.mend()
  }

  async spawn(request: SpawnRequest, entry: LedgerEntry | undefined, signal?: AbortSignal): Promise<SpawnedProcess> {
    const helper = await this.#running(signal)
    signal?.throwIfAborted() // Nothing is heard of it once it has aborted.
    const id = randomUUID()
    const { streams, cancel } = this.#outputs.expect(id)
    const process = helper.start(id, request, entry)
    const giveUp = () => {
      helper.giveUp(id)
      // Its output may never come, for which it is not awaited.
      void process.started.then(() => process.signal('group', 'SIGKILL'))
    }
    signal?.addEventListener('abort', giveUp, { once: true })
    try {
      const start = Promise.all([process.started, streams])
      const [pid, [stdout, stderr]] = await Promise.race([start, process.failed, withoutOutput(process)])
      return Object.assign(process, { pid, stdout, stderr })
    } catch (error) {
      cancel()
      await process.emptied
      throw error
    } finally {
      signal?.removeEventListener('abort', giveUp)
    }
  }

  /** Ends the helper. Every process that it started must be gone, or stuck. */
  async close(): Promise<void> {
    const helper = this.#helper
    helper?.close()
    await helper?.ended
    await this.#outputs.close()
  }

  async #running(signal: AbortSignal | undefined): Promise<Helper> {
    this.#helper ??= new Helper(this.#setup, this.#patience, () => {
      this.#helper = undefined
    })
    const helper = this.#helper
    try {
      await Promise.race([helper.ready, rejectOnAbort(signal)])
      return helper
    } catch (error) {
      throw signal?.aborted ? new Error('The spawn helper is not ready yet', { cause: error }) : error
    }
  }
}

/** Those of supervisors that were killed, whose state directory is this one's now. */
async function removeOutputs(directory: string): Promise<void> {
  const outputs = (await readdir(directory)).filter((name) => name.startsWith(OUTPUT))
  await Promise.all(outputs.map((name) => rm(join(directory, name), { force: true })))
}

/** One life of the helper process. */
class Helper {
  readonly ready: Promise<void>
  /** Resolves when it is gone, to what became of it; its processes have been told by then. */
  readonly ended: Promise<string>

  readonly #child: ChildProcess
  readonly #processes = new Map<string, RemoteProcess>()
  /** Ids of those that nobody has killed or given up. */
  readonly #wanted = new Set<string>()
  readonly #patience: Patience
  #phase: 'starting' | 'ready' = 'starting'
  /** Runs from the start, or a command, until something is heard of the helper. */
  #silence: NodeJS.Timeout | undefined
  /** When that began, by the monotonic clock. */
  #askedAt = 0
  /** Runs as long, to see whether there is any use in waiting. */
  #watch: NodeJS.Timeout | undefined
  /** What was wrong with it, when it is we who ended it for that. */
  #problem: string | undefined

  /** @param forget is called at its end, before anybody hears of it: who does may start the next process at once. */
  constructor(setup: HelperSetup, patience: Patience, forget: () => void) {
    this.#patience = patience
    this.#child = spawn(process.execPath, [...nodeFlags(), helperFile(), JSON.stringify(setup)], {
      detached: true, // The terminal's Ctrl-C is for its parent to deal with.
      env: createEnvironment({}),
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      windowsHide: true,
    })
    // It sweeps up behind this process, unless it cannot: then its workers go with it, and the next start sweeps.
    const disarm = atExit(() => {
      const isSilent = this.#silence !== undefined && performance.now() - this.#askedAt > ANSWER_TIME
      if (isSilent) this.#kill()
    })
    this.ended = new Promise<string>((resolve) => {
      this.#child.once('error', ({ message }) => resolve(`could not be started (${message})`))
      this.#child.once('exit', (exitCode, signal) => resolve(describeEnd({ exitCode, signal })))
    }).then((end) => {
      disarm()
      forget()
      this.#onEnd()
      return this.#problem ?? end
    })
    this.ready = new Promise((resolve, reject) => {
      void this.ended.then((end) => reject(startError(end)))
      this.#child.on('message', (fact: HelperFact) => {
        this.#endSilence()
        if (fact.type === 'ready') {
          this.#phase = 'ready'
          resolve()
        } else if (fact.type !== 'heard') this.#processes.get(fact.id)?.observe(fact)
      })
    })
    this.ready.catch(() => {}) // Nobody may be waiting for it any more.
    this.#child.on('error', () => {})
    this.#limitSilence(patience.start)
  }

  start(id: string, request: SpawnRequest, entry: LedgerEntry | undefined): RemoteProcess {
    const process = new RemoteProcess((command) => this.send({ ...command, id }), entry)
    this.#processes.set(id, process)
    this.#wanted.add(id)
    void process.emptied.then(() => {
      this.#processes.delete(id)
      this.#wanted.delete(id)
    })
    this.send({ type: 'start', id, request })
    return process
  }

  /** Nobody waits any more for the process to start: it would be killed. */
  giveUp(id: string): void {
    this.#wanted.delete(id)
  }

  /** One that is still starting may hang there, and has nothing to see to. */
  close(): void {
    if (this.#phase === 'starting') this.#kill()
    else this.send({ type: 'close' })
  }

  send(command: HelperCommand): void {
    if (command.type === 'signal' && command.signal === 'SIGKILL') this.#wanted.delete(command.id)
    // What cannot be sent is answered by the end of the helper.
    if (!this.#child.connected) return
    this.#child.send(command, undefined, {}, () => {})
    if (this.#silence === undefined && this.#problem === undefined) this.#limitSilence(this.#patience.answer)
  }

  #limitSilence(limit: number): void {
    this.#askedAt = performance.now()
    const silence = setTimeout(() => {
      // When it is this process that was stopped, an answer may be here, and is read after this.
      setImmediate(() => {
        if (this.#silence === silence) this.#end(`said nothing for ${limit / 1_000} s`, 'may have')
      })
    }, limit)
    this.#silence = silence
    this.#watch = setInterval(() => {
      if (this.#phase === 'ready' && this.#wanted.size === 0 && this.#isStopped()) this.#end('did not answer', 'has')
    }, ANSWER_TIME)
  }

  #endSilence(): void {
    clearTimeout(this.#silence)
    clearInterval(this.#watch)
    this.#silence = undefined
  }

  #isStopped(): boolean {
    const { pid } = this.#child
    return pid !== undefined && readProcessNow(pid)?.isStopped === true
  }

  #end(problem: string, verb: 'may have' | 'has'): void {
    this.#problem = `${problem}, and was killed`
    // While it starts, the error of who waits for it says as much.
    if (this.#phase === 'ready') {
      process.emitWarning(`The spawn helper ${this.#problem}: somebody ${verb} stopped it`, 'CorralWarning')
    }
    this.#endSilence()
    this.#kill()
  }

  #kill(): void {
    this.#child.kill('SIGKILL')
  }

  #onEnd(): void {
    this.#endSilence()
    for (const process of this.#processes.values()) process.orphan()
    this.#processes.clear()
  }
}

type SignalCommand = Omit<Extract<HelperCommand, { type: 'signal' }>, 'id'>

/** A process that the helper started, as the helper tells of it. */
class RemoteProcess implements SpawnedProcess {
  declare readonly pid: number
  declare readonly stdout: Readable
  declare readonly stderr: Readable
  readonly started: Promise<number>
  readonly exit: Promise<ProcessEnd>
  readonly stuck: Promise<void>
  readonly emptied: Promise<readonly number[]>
  /** Only ever rejects: when it could not be started. */
  readonly failed: Promise<never>

  readonly #send: (command: SignalCommand) => void
  readonly #entry: LedgerEntry | undefined
  #onStarted!: (pid: number) => void
  #onFailed!: (error: Error) => void
  #onExited!: (end: ProcessEnd) => void
  #onStuck!: () => void
  #onEmptied!: (survivors: readonly number[] | Promise<readonly number[]>) => void

  constructor(send: (command: SignalCommand) => void, entry: LedgerEntry | undefined) {
    this.#send = send
    this.#entry = entry
    this.started = new Promise((resolve) => {
      this.#onStarted = resolve
    })
    this.failed = new Promise((_, reject) => {
      this.#onFailed = reject
    })
    this.failed.catch(() => {})
    this.exit = new Promise((resolve) => {
      this.#onExited = resolve
    })
    this.stuck = new Promise((resolve) => {
      this.#onStuck = resolve
    })
    this.emptied = new Promise((resolve) => {
      this.#onEmptied = resolve
    })
  }

  observe(fact: Exclude<HelperFact, { type: 'ready' | 'heard' }>): void {
    switch (fact.type) {
      case 'started':
        return this.#onStarted(fact.pid)
      case 'failed':
        this.#onFailed(toError(fact.error))
        return this.#onEmptied([])
      case 'exited':
        return this.#onExited(fact.end)
      case 'stuck':
        return this.#onStuck()
      case 'emptied':
        return this.#onEmptied(fact.survivors)
    }
  }

  signal(target: 'group' | 'leader', signal: NodeJS.Signals): void {
    this.#send({ type: 'signal', target, signal })
  }

  killNow(): void {
    signalGroup(this.pid, 'SIGKILL')
  }

  /** The helper is gone: nobody else sees to the process any more. */
  orphan(): void {
    this.#onFailed(new Error('The spawn helper died'))
    this.#onExited({ exitCode: null, signal: 'SIGKILL', fault: 'spawner' })
    this.#onEmptied(this.#entry === undefined ? [] : this.#entry.settled().then((record) => endProcesses(record)))
  }
}

/** What comes of one that has ended comes soon, or never: somebody else has had the connections. */
async function withoutOutput({ emptied }: RemoteProcess): Promise<never> {
  await emptied
  await sleep(ANSWER_TIME, undefined, { ref: false })
  throw new Error('Its output never came: that happens where the limit on open files is reached (ulimit -n)')
}

/** The helper writes to the stderr of this process: what Node says of threads that it cannot make has been printed. */
function startError(problem: string): WorkerStartError {
  const message =
    `The spawn helper did not get ready: it ${problem}. Look at what it printed, if anything, at the limit on ` +
    'processes (ulimit -u, pids limit of the cgroup), and whether somebody has stopped it'
  return new WorkerStartError(toFailure('WORKER_START_FAILED', message))
}

function describeEnd({ exitCode, signal }: ProcessEnd): string {
  return signal === null ? `exited with status ${exitCode}` : `was ended by ${signal}`
}

function toError({ message, ...details }: SystemError): Error {
  return Object.assign(new Error(message), details)
}
