import { existsSync } from 'node:fs'
import { InvalidOptionError } from '../errors.ts'
import type { BackendStatus, LaunchContext, WorkerBackend, WorkerInstance } from '../backend.ts'
import { validate } from '../validate.ts'
import { rejectOnAbort } from './health.ts'
import type { ProcessInstance } from './instance.ts'
import { openHost, plainHost, type Host, type HostRequest } from './host.ts'
import { launchProcess } from './launch.ts'
import { processWorkerOptions } from './options.ts'
import type { ProcessSettings, ProcessWorkerOptions } from './options.ts'
import type { Remains } from './remains.ts'
import { parseTemplate, type Template } from './template.ts'

export { diagnose } from './isolation/diagnosis.ts'
export type { Diagnosis } from './isolation/diagnosis.ts'
export type { BindOptions, IsolationLevel, IsolationOptions, ResourceLimits } from './isolation/options.ts'
export type { HealthCheckTarget, OutputSource, ProcessHealthOptions, ProcessStopOptions } from './options.ts'
export type { ProcessWorkerOptions }

/**
 * A backend whose workers are processes on this machine, each in a process group of its own, and as far apart from the
 * rest as `isolation` says. Nothing is started yet.
 *
 * @example
 * processWorker({
 *   command: './my-binary',
 *   args: ['--port', '{{port}}'],
 *   env: { API_KEY: process.env.API_KEY },
 *   health: { path: '/health' },
 * })
 * @throws `INVALID_OPTION`
 */
export function processWorker(options: ProcessWorkerOptions): WorkerBackend {
  return new ProcessBackend(validate(processWorkerOptions, options))
}

/** What all pools of one backend use. */
interface SharedHost {
  readonly host: Promise<Host>
  /** Aborted when none of them is left, be it open by then or not. */
  readonly unwanted: AbortController
}

class ProcessBackend implements WorkerBackend {
  readonly startTimeout: number
  readonly startAttempts: number
  readonly stopGrace: number
  readonly liveness: NonNullable<WorkerBackend['liveness']>
  readonly memoryOf?: NonNullable<WorkerBackend['memoryOf']>

  readonly #settings: ProcessSettings
  readonly #template: Template
  /** For whoever launches without having opened it. */
  #plain: Promise<Host> | undefined
  #shared: SharedHost | undefined
  /** Settles when the host before is gone: they may want the same state directory. */
  #closed: Promise<unknown> = Promise.resolve()
  /** Pools that have it open: they share one host. */
  #users = 0
  #status: BackendStatus | undefined
  readonly #left = new Set<Remains>()

  constructor(settings: ProcessSettings) {
    const { startTimeout, startAttempts, interval, timeout, failures } = settings.health
    this.startTimeout = startTimeout
    this.startAttempts = startAttempts
    this.stopGrace = settings.stop.grace
    this.liveness = { interval, timeout, failures }
    // It is asked of its own workers only.
    if (process.platform === 'linux') this.memoryOf = (worker) => (worker as ProcessInstance).memory()
    this.#settings = settings
    this.#template = parseTemplate(settings.args, settings.env)
    if (settings.isolation.network === 'none' && !this.#template.uses.has('socket')) {
      throw new InvalidOptionError('isolation.network', '"host", or {{socket}} for the worker to serve on', '"none"')
    }
  }

  async open(signal?: AbortSignal): Promise<void> {
    const lost = this.#settings.isolation.binds.find(({ source }) => !existsSync(source))
    // It is bubblewrap that would not find it, at the start of each worker.
    if (lost)
      throw new InvalidOptionError('isolation.binds', 'paths of this machine', `${lost.source}, which is not there`)
    this.#users++
    this.#shared ??= this.#open()
    try {
      this.#status = statusOf(await Promise.race([this.#shared.host, rejectOnAbort(signal)]))
    } catch (error) {
      await this.close()
      throw error
    }
  }

  async close(): Promise<void> {
    const shared = this.#shared
    if (--this.#users > 0 || shared === undefined) return
    this.#shared = undefined
    shared.unwanted.abort()
    const closing = shared.host.then(
      (host) => host.close(),
      () => {}, // It has left nothing, and whoever waits for it hears of that.
    )
    this.#closed = closing.catch((error: unknown) => process.emitWarning(String(error), 'CorralWarning'))
    await this.#closed
  }

  async launch(context: LaunchContext): Promise<WorkerInstance> {
    const host = await (this.#shared?.host ?? this.#openPlain())
    return launchProcess({ settings: this.#settings, template: this.#template, host, left: this.#left }, context)
  }

  status(): BackendStatus | undefined {
    const left = [...this.#left].flatMap((remains) => remains.pids())
    return this.#status && { ...this.#status, ...(left.length > 0 && { left }) }
  }

  #request(): HostRequest {
    return { ...this.#settings, uses: this.#template.uses }
  }

  #open(): SharedHost {
    const unwanted = new AbortController()
    return { host: this.#closed.then(() => openHost(this.#request(), unwanted.signal)), unwanted }
  }

  #openPlain(): Promise<Host> {
    this.#plain ??= plainHost(this.#request()).catch((error: unknown) => {
      this.#plain = undefined
      throw error
    })
    return this.#plain
  }
}

function statusOf({ sandbox: { level, missing } }: Host): BackendStatus {
  return { level, missing: missing.map(({ wanted }) => wanted) }
}
