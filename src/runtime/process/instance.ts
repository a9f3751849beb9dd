import { setImmediate as tick } from 'node:timers/promises'
import type { WorkerAddress, WorkerExit, WorkerInstance } from '../backend.ts'
import { processClock } from './_proc.ts'
import type { ReservedAddress } from './address.ts'
import { atExit } from './at-exit.ts'
import type { WorkerCgroup } from './cgroup/worker-cgroup.ts'
import type { Claims } from './claims.ts'
import { connectProbe, httpProbe, pollUntilHealthy, rejectOnAbort } from './health.ts'
import type { Probe } from './health.ts'
import { findListenerOwner } from './listener.ts'
import { memoryInUse } from './memory.ts'
import type { ProcessSettings } from './options.ts'
import { OutputTail } from './output.ts'
import { drainPipes } from './pipes.ts'
import { watchForLine } from './ready-line.ts'
import type { ReadyLine } from './ready-line.ts'
import { Remains } from './remains.ts'
import { createReporter } from './reporter.ts'
import { endSession } from './session.ts'
import type { ProcessEnd, SpawnedProcess } from './spawn/spawned-process.ts'
import { endStrays } from './strays.ts'

export interface InstanceOptions {
  readonly workerId: string
  readonly settings: ProcessSettings
  readonly reserved: ReservedAddress
  /** What is held for the worker. */
  readonly claims: Claims
  /** Releases that. */
  readonly release: (claims: Claims) => Promise<void>
  readonly cgroup: WorkerCgroup | undefined
  /** Directory by which what has left its process group is known; absent: that is known otherwise, or not at all. */
  readonly directory: string | undefined
  /** Where the processes are put down that could not be killed. */
  readonly left: Set<Remains>
}

/** What is left beside what is stuck, or after it, gets no longer, in milliseconds: it was killed with it. */
const REST_LIMIT = 1_000

/** One OS process and its group, from just after the spawn until nothing of it is left, or nothing more can be done. */
export class ProcessInstance implements WorkerInstance {
  readonly pid: number
  readonly address: WorkerAddress
  readonly exited: Promise<WorkerExit>
  readonly check?: Probe

  readonly #workerId: string
  readonly #settings: ProcessSettings
  readonly #reserved: ReservedAddress
  readonly #claims: Claims
  readonly #release: InstanceOptions['release']
  readonly #cgroup: WorkerCgroup | undefined
  readonly #directory: string | undefined
  readonly #left: Set<Remains>
  readonly #process: SpawnedProcess
  readonly #probe: Probe | undefined
  readonly #stdout: OutputTail
  readonly #stderr: OutputTail
  readonly #readyLine: ReadyLine | undefined
  /** Aborts when the leader exits: nothing more can come of a start. */
  readonly #ended = new AbortController()
  /** `stuck`: SIGKILL does not end it. `exited`: there may be more than the leader was. `gone`: its id may be somebody else's by now. */
  #phase: 'starting' | 'ready' | 'stuck' | 'exited' | 'gone' = 'starting'
  /** The most that was asked of it. */
  #asked: 'nothing' | 'stop' | 'kill' = 'nothing'
  #isListenerKnown: boolean
  #problem: string | undefined
  #message: string | undefined

  constructor(process: SpawnedProcess, options: InstanceOptions) {
    const { pid } = process
    const { workerId, settings, reserved, claims, release, cgroup, directory, left } = options
    this.pid = pid
    this.address = reserved.address
    this.#process = process
    this.#workerId = workerId
    this.#settings = settings
    this.#reserved = reserved
    this.#claims = claims
    this.#release = release
    this.#cgroup = cgroup
    this.#directory = directory
    this.#left = left
    this.#isListenerKnown = settings.health.listener === 'any' || reserved.port === undefined

    const { line } = settings.health
    const readyLine = line === undefined ? undefined : watchForLine(line)
    this.#readyLine = readyLine
    const report = settings.onOutput && createReporter(settings.onOutput)
    this.#stdout = new OutputTail({
      onLine: (text) => report?.(text, { stream: 'stdout', workerId, pid }),
      search: readyLine?.test,
    })
    this.#stderr = new OutputTail({ onLine: (text) => report?.(text, { stream: 'stderr', workerId, pid }) })

    this.#probe = this.#createProbe(workerId)
    if (this.#probe !== undefined) this.check = this.#probe
    this.exited = this.#supervise()
  }

  async ready(signal: AbortSignal): Promise<void> {
    const waiting = AbortSignal.any([signal, this.#ended.signal])
    try {
      await Promise.race([this.#becomeReady(waiting), rejectOnAbort(waiting)])
      await this.#refuseStranger()
      waiting.throwIfAborted()
      this.#phase = 'ready'
    } catch (error) {
      if (this.#isRunning()) throw error
      const exit = await this.exited
      // Whoever waits for both is to hear of the exit first: it says whether another try may help.
      await tick()
      throw new Error(this.#message ?? `The worker exited before it was ready (${describeExit(exit)})`, {
        cause: error,
      })
    }
  }

  stop(): void {
    if (!this.#isRunning()) return
    if (this.#asked === 'nothing') this.#asked = 'stop'
    const { signal, target } = this.#settings.stop
    this.#process.signal(target, signal)
  }

  kill(): void {
    if (this.#phase === 'gone') return
    if (this.#phase === 'starting' && this.#problem !== undefined) {
      this.#message ??= `The worker was not ready: ${this.#problem}`
    }
    this.#asked = 'kill'
    this.#process.signal('group', 'SIGKILL')
    this.#cgroup?.killNow()
  }

  output(): readonly string[] {
    const errors = this.#stderr.lines()
    return errors.length > 0 ? errors : this.#stdout.lines()
  }

  /** Bytes that it takes, with everything that it started. */
  async memory(): Promise<number> {
    return this.#isRunning() ? memoryInUse(this.pid, this.#cgroup) : 0
  }

  async #supervise(): Promise<WorkerExit> {
    const finishReading = drainPipes(this.#process, { stdout: this.#stdout, stderr: this.#stderr })
    const disarm = atExit(() => {
      this.#process.killNow()
      this.#cgroup?.killNow()
      this.#claims.releaseNow()
    })
    const end = await Promise.race([this.#process.exit, this.#process.stuck])
    if (end === undefined) {
      const exit = await this.#giveUp(disarm)
      await finishReading()
      return exit
    }
    const retry = this.#phase === 'starting' && end.fault !== 'wrapper'
    this.#phase = 'exited'
    const endedAt = processClock()
    this.#ended.abort(new Error('The worker exited'))
    const cause = await this.#findCause(end)
    const survivors = await this.#endRest()
    this.#phase = 'gone'
    await finishReading()
    this.#message ??= this.#explain(end, cause)
    const remains = new Remains(survivors)
    if (remains.pids().length > 0) {
      this.#leave(remains, survivors, disarm)
      void this.#outlast(remains, endedAt, disarm)
    } else await this.#letGo(disarm)
    const { exitCode, signal } = end
    return {
      exitCode,
      signal,
      ...(this.#message !== undefined && { message: this.#message }),
      ...(retry && { retry }),
      ...(cause !== undefined && { cause }),
    }
  }

  /** SIGKILL does not end the leader: that it ends at all is waited for by nobody but this. */
  async #giveUp(disarm: () => void): Promise<WorkerExit> {
    this.#phase = 'stuck'
    this.#ended.abort(new Error('The worker could not be killed'))
    const survivors = [this.pid, ...(await this.#endOthers(REST_LIMIT))]
    const remains = new Remains(survivors)
    const message = this.#leave(remains, survivors, disarm)
    void this.#process.exit.then(async () => {
      this.#phase = 'exited'
      const endedAt = processClock()
      remains.add(await this.#process.emptied)
      this.#phase = 'gone'
      await this.#outlast(remains, endedAt, disarm)
    })
    return { exitCode: null, signal: null, message }
  }

  /** What they may still use stays. @returns what became of the worker. */
  #leave(remains: Remains, survivors: readonly number[], disarm: () => void): string {
    this.#left.add(remains)
    // Otherwise there is nobody to come but this process at its end.
    if (this.#claims.isRecorded) disarm()
    const ids = [...new Set(survivors)].join(', ')
    const problem = `Processes ${ids} of worker ${this.#workerId} could not be killed`
    process.emitWarning(this.#claims.isRecorded ? `${problem}; the next start tries again` : problem, 'CorralWarning')
    this.#message ??= problem
    return this.#message
  }

  /** Lets go of what they may still use when they end after all, which nobody else waits for. */
  async #outlast(remains: Remains, endedAt: number, disarm: () => void): Promise<void> {
    await remains.gone(async () => {
      const inSession = await endSession(this.pid, endedAt, REST_LIMIT)
      return [...inSession, ...(await this.#endOthers(REST_LIMIT))]
    })
    this.#left.delete(remains)
    await this.#letGo(disarm)
  }

  async #letGo(disarm: () => void): Promise<void> {
    await this.#release(this.#claims)
    disarm()
  }

  /** Ends what the worker has left. @returns ids of the processes that would not die. */
  async #endRest(): Promise<readonly number[]> {
    // At once: who is stuck may be in all of them.
    const survivors = await Promise.all([this.#process.emptied, this.#endOthers()])
    return survivors.flat()
  }

  /** Those of them that are not of its group. */
  async #endOthers(giveUpAfter?: number): Promise<readonly number[]> {
    const inCgroup = (await this.#cgroup?.empty(giveUpAfter)) ?? []
    return this.#directory === undefined ? inCgroup : [...inCgroup, ...(await endStrays(this.#directory, giveUpAfter))]
  }

  /**
   * What the kernel tells of the end, beside how it looks. The cgroup must still be there. A child may have been the victim,
   * and the worker have ended well for all that.
   */
  async #findCause({ exitCode }: ProcessEnd): Promise<'oom' | undefined> {
    if (this.#settings.limits.memory === undefined || this.#cgroup === undefined) return undefined
    if (this.#asked === 'kill' || exitCode === 0) return undefined
    return (await this.#cgroup.oomKills()) > 0 ? 'oom' : undefined
  }

  #explain({ fault }: ProcessEnd, cause: 'oom' | undefined): string | undefined {
    const { memory } = this.#settings.limits
    if (cause === 'oom') return `The worker ran out of memory: it may have ${memory} bytes (limits.memory)`
    if (fault === 'spawner') return 'The worker was killed, as the helper that had started it died'
    if (fault === 'wrapper') return `The worker could not be isolated: ${explainWrapper(this.output().at(-1))}`
    return undefined
  }

  async #becomeReady(signal: AbortSignal): Promise<void> {
    if (this.#readyLine !== undefined) await this.#readyLine.seen
    const probe = this.#createStartProbe()
    if (probe === undefined) return
    const onFailure = (error: unknown) => this.#noteFailure(error)
    await pollUntilHealthy(probe, { timeout: this.#settings.health.timeout, signal, onFailure })
  }

  /** What it listens on may change until it is ready, and is what it was then for the rest of its life. */
  #createStartProbe(): Probe | undefined {
    const { pin } = this.#reserved
    if (pin === undefined) return this.#probe
    return async (signal) => {
      pin.take(this.pid)
      await this.#probe?.(signal)
    }
  }

  #createProbe(workerId: string): Probe | undefined {
    const { address, pid } = this
    const { path, line, check } = this.#settings.health
    if (line !== undefined) return undefined
    if (path !== undefined) return httpProbe(address, path)
    if (check !== undefined) return async (signal) => check({ address, pid, workerId, signal })
    return connectProbe(address)
  }

  async #noteFailure(error: unknown): Promise<void> {
    this.#problem = error instanceof Error ? error.message : String(error)
    // Somebody answered, if badly: the worker, or the stranger because of whom it will never be heard of.
    if (!isNobodyThere(error)) await this.#refuseStranger()
  }

  /** A port that another process took first: this process is of no use, but the next may be, on another port. */
  async #refuseStranger(): Promise<void> {
    const { port } = this.#reserved
    if (this.#isListenerKnown || port === undefined) return
    const owner = await findListenerOwner(port, this.pid, this.#cgroup)
    if (owner === 'own' || owner === 'unknown') this.#isListenerKnown = true
    if (owner !== 'foreign' || !this.#isRunning()) return
    this.#message =
      `Port ${port} of the worker was taken by another process. If that one serves on the worker's behalf, set ` +
      `health.listener to "any"`
    this.kill()
    await this.exited
    throw new Error(this.#message)
  }

  #isRunning(): boolean {
    return this.#phase === 'starting' || this.#phase === 'ready'
  }
}

/** What is not to be found inside was there outside, before the start. */
function explainWrapper(line = 'bubblewrap failed'): string {
  if (!/^bwrap: execvp .*: No such file or directory$/.test(line)) return line
  return `${line}; what lies in a home directory, in /tmp or in another place that is hidden has to be shown (isolation.binds)`
}

function isNobodyThere(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code
  return code === 'ECONNREFUSED' || code === 'ENOENT'
}

function describeExit({ exitCode, signal }: WorkerExit): string {
  return signal === null ? `exit code ${exitCode}` : `signal ${signal}`
}
