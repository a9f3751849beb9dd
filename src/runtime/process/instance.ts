import type { ChildProcess } from 'node:child_process'
import { setImmediate as tick } from 'node:timers/promises'
import type { WorkerAddress, WorkerExit, WorkerInstance } from '../backend.ts'
import type { ReservedAddress } from './address.ts'
import { atExit } from './at-exit.ts'
import { emptyGroup, signalGroup, signalLeader } from './group.ts'
import { connectProbe, httpProbe, pollUntilHealthy, rejectOnAbort } from './health.ts'
import type { Probe } from './health.ts'
import { findListenerOwner } from './listener.ts'
import type { ProcessSettings } from './options.ts'
import { OutputTail } from './output.ts'
import { drainPipes } from './pipes.ts'
import { watchForLine } from './ready-line.ts'
import type { ReadyLine } from './ready-line.ts'
import { createReporter } from './reporter.ts'

export interface InstanceOptions {
  readonly workerId: string
  readonly settings: ProcessSettings
  readonly reserved: ReservedAddress
}

/** One OS process and its group, from just after the spawn until nothing of it is left. */
export class ProcessInstance implements WorkerInstance {
  readonly pid: number
  readonly address: WorkerAddress
  readonly exited: Promise<WorkerExit>
  readonly check?: Probe

  readonly #settings: ProcessSettings
  readonly #reserved: ReservedAddress
  readonly #probe: Probe | undefined
  readonly #stdout: OutputTail
  readonly #stderr: OutputTail
  readonly #readyLine: ReadyLine | undefined
  /** Aborts when the leader exits: nothing more can come of a start. */
  readonly #ended = new AbortController()
  /** `exited`: the leader is reaped, its group may have members. `gone`: its id may be somebody else's by now. */
  #phase: 'starting' | 'ready' | 'exited' | 'gone' = 'starting'
  #isListenerKnown: boolean
  #problem: string | undefined
  #message: string | undefined

  /** `child` must have been spawned in this very tick, or its exit would be missed. */
  constructor(child: ChildProcess, pid: number, { workerId, settings, reserved }: InstanceOptions) {
    this.pid = pid
    this.address = reserved.address
    this.#settings = settings
    this.#reserved = reserved
    this.#isListenerKnown = settings.health.listener === 'any' || reserved.port === undefined

    const { line } = settings.health
    const readyLine = line === undefined ? undefined : watchForLine(line)
    this.#readyLine = readyLine
    const report = settings.onOutput && createReporter(settings.onOutput)
    this.#stdout = new OutputTail({
      onLine: (text) => {
        readyLine?.test(text)
        report?.(text, { stream: 'stdout', workerId, pid })
      },
      onPartialLine: readyLine?.test,
    })
    this.#stderr = new OutputTail({ onLine: (text) => report?.(text, { stream: 'stderr', workerId, pid }) })

    this.#probe = this.#createProbe(workerId)
    if (this.#probe !== undefined) this.check = this.#probe
    this.exited = this.#supervise(child)
  }

  async ready(signal: AbortSignal): Promise<void> {
    const waiting = AbortSignal.any([signal, this.#ended.signal])
    try {
      await Promise.race([this.#readyLine?.seen ?? this.#poll(waiting), rejectOnAbort(waiting)])
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
    const { signal, target } = this.#settings.stop
    if (target === 'leader') signalLeader(this.pid, signal)
    else signalGroup(this.pid, signal)
  }

  kill(): void {
    if (this.#phase === 'gone') return
    if (this.#phase === 'starting' && this.#problem !== undefined) {
      this.#message ??= `The worker was not ready: ${this.#problem}`
    }
    signalGroup(this.pid, 'SIGKILL')
  }

  output(): readonly string[] {
    const errors = this.#stderr.lines()
    return errors.length > 0 ? errors : this.#stdout.lines()
  }

  async #supervise(child: ChildProcess): Promise<WorkerExit> {
    child.on('error', () => {}) // Of Node's own child.kill(), which nobody calls; unheard it would end this process.
    const finishReading = drainPipes(child, { stdout: this.#stdout, stderr: this.#stderr })
    const disarm = atExit(() => {
      this.kill()
      this.#reserved.releaseSync()
    })
    const exit = await new Promise<WorkerExit>((resolve) => {
      child.once('exit', (exitCode, signal) => {
        const retry = this.#phase === 'starting'
        this.#phase = 'exited'
        // Here and not later: the leader has just been reaped, and until its group is empty its id stays taken.
        signalGroup(this.pid, 'SIGKILL')
        this.#ended.abort(new Error('The worker exited'))
        resolve({ exitCode, signal, ...(retry && { retry }) })
      })
    })
    const survivors = await emptyGroup(this.pid)
    this.#phase = 'gone'
    await finishReading()
    await this.#reserved.release().catch((error: unknown) => process.emitWarning(String(error), 'CorralWarning'))
    disarm()
    if (survivors.length > 0) {
      this.#message ??= `Processes ${survivors.join(', ')} of the worker could not be killed`
      process.emitWarning(this.#message, 'CorralWarning')
    }
    return this.#message === undefined ? exit : { ...exit, message: this.#message }
  }

  async #poll(signal: AbortSignal): Promise<void> {
    const onFailure = (error: unknown) => this.#noteFailure(error)
    if (this.#probe === undefined) return
    await pollUntilHealthy(this.#probe, { timeout: this.#settings.health.timeout, signal, onFailure })
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
    const owner = await findListenerOwner(port, this.pid)
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

function isNobodyThere(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code
  return code === 'ECONNREFUSED' || code === 'ENOENT'
}

function describeExit({ exitCode, signal }: WorkerExit): string {
  return signal === null ? `exit code ${exitCode}` : `signal ${signal}`
}
