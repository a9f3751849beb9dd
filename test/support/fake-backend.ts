import type { LaunchContext, WorkerBackend, WorkerExit, WorkerInstance } from 'corral'

export interface FakeBehaviour {
  /** Whether launches succeed by themselves; those that do not wait in {@link FakeBackend.launches}. @default true */
  launches?: boolean
  /** Whether workers become ready by themselves. @default true */
  ready?: boolean
  /** Whether workers exit when they are asked to stop. @default true */
  stops?: boolean
  /** Whether workers exit when they are killed. @default true */
  dies?: boolean
}

/** What the next worker does as soon as it was launched. */
export type Step = (worker: FakeWorker) => void

/** A launch that waits for a test to decide on it. */
export interface PendingLaunch {
  readonly workerId: string
  readonly signal: AbortSignal
  succeed(): void
  fail(error: Error): void
}

/** A backend whose workers do what a test tells them, and by themselves only what `behaviour` says. */
export class FakeBackend implements WorkerBackend {
  startTimeout = 1_000
  startAttempts = 3
  stopGrace = 500
  liveness = { interval: 100, timeout: 50, failures: 3 }
  behaviour: FakeBehaviour
  /** Every worker that was launched, in order. */
  readonly workers: FakeWorker[] = []
  /** Launches that have not settled, in order. */
  readonly launches: PendingLaunch[] = []
  /** One step for each of the next workers. Must be used up at the end of a test. */
  readonly script: Step[] = []
  /** Rejects the next launches with this. */
  launchError: Error | undefined
  /** Most processes that existed at one time. */
  peak = 0
  /** Calls of `launch`. */
  calls = 0

  constructor(behaviour: FakeBehaviour = {}) {
    this.behaviour = behaviour
  }

  async launch(context: LaunchContext): Promise<WorkerInstance> {
    this.calls++
    if (this.alive.some(({ id }) => id === context.workerId)) throw new Error(`${context.workerId} is alive already`)
    await (this.behaviour.launches === false ? this.#decision(context) : Promise.resolve())
    if (this.launchError) throw this.launchError
    const worker = new FakeWorker(context, this)
    this.workers.push(worker)
    this.peak = Math.max(this.peak, this.alive.length)
    this.script.shift()?.(worker)
    return worker
  }

  async memoryOf({ pid }: WorkerInstance): Promise<number> {
    const worker = this.workers.find((worker) => worker.pid === pid)
    if (!worker) throw new Error(`there is no process ${pid}`)
    worker.measures++
    if (worker.memory === undefined) throw new Error('the scales are broken')
    return worker.memory
  }

  /** Workers whose process exists. */
  get alive(): FakeWorker[] {
    return this.workers.filter((worker) => worker.isAlive)
  }

  /** Whether the pool has been told that the worker is gone. */
  hasToldOf(worker: FakeWorker): boolean {
    return !worker.isAlive
  }

  /** The newest worker with that id. */
  worker(id: string): FakeWorker {
    const worker = this.workers.findLast((worker) => worker.id === id)
    if (!worker) throw new Error(`no worker ${id} was launched`)
    return worker
  }

  /** Whatever the test held back happens now, and by itself from now on. */
  letGo(): void {
    this.behaviour = {}
    for (const launch of this.launches.slice()) launch.succeed()
    for (const worker of this.alive) if (worker.stops > 0 || worker.kills > 0) worker.exit({ signal: 'SIGKILL' })
  }

  #decision({ workerId, signal }: LaunchContext): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (done: () => void) => {
        this.launches.splice(this.launches.indexOf(launch), 1)
        done()
      }
      const launch: PendingLaunch = {
        workerId,
        signal,
        succeed: () => settle(resolve),
        fail: (error) => settle(() => reject(error)),
      }
      this.launches.push(launch)
    })
  }
}

export class FakeWorker implements WorkerInstance {
  readonly id: string
  readonly pid: number
  readonly address: { host: string; port: number }
  readonly exited: Promise<WorkerExit>
  isAlive = true
  stops = 0
  kills = 0
  lines: string[] = []
  /** What the next liveness probes do. */
  answers: 'yes' | 'no' | 'never' = 'yes'
  probes = 0
  /** Bytes that it takes; `undefined`: they cannot be measured. */
  memory: number | undefined = 0
  measures = 0
  /** Probes that were given up because their time was over or nobody wanted to know any more. */
  abandoned = 0

  readonly #backend: FakeBackend
  #exit!: (exit: WorkerExit) => void
  #ready!: () => void
  #fail!: (error: Error) => void
  readonly #readiness: Promise<void>

  constructor({ workerId }: LaunchContext, backend: FakeBackend) {
    this.id = workerId
    this.pid = 1_000 + backend.workers.length
    this.address = { host: '127.0.0.1', port: 20_000 + backend.workers.length }
    this.#backend = backend
    this.exited = new Promise((resolve) => (this.#exit = resolve))
    this.#readiness = new Promise((resolve, reject) => {
      this.#ready = resolve
      this.#fail = reject
    })
    this.#readiness.catch(() => {})
    if (backend.behaviour.ready !== false) this.#ready()
  }

  ready(): Promise<void> {
    return this.#readiness
  }

  check(signal: AbortSignal): Promise<void> {
    this.probes++
    if (this.answers === 'yes') return Promise.resolve()
    if (this.answers === 'no') return Promise.reject(new Error('no answer'))
    return new Promise(() => signal.addEventListener('abort', () => this.abandoned++))
  }

  output(): readonly string[] {
    return this.lines
  }

  stop(): void {
    this.stops++
    if (this.#backend.behaviour.stops !== false) this.exit({ exitCode: 0 })
  }

  kill(): void {
    this.kills++
    if (this.#backend.behaviour.dies !== false) this.exit({ signal: 'SIGKILL' })
  }

  becomeReady(): void {
    this.#ready()
  }

  failReadiness(message = 'not ready'): void {
    this.#fail(new Error(message))
  }

  exit(exit: Partial<WorkerExit> = { exitCode: 1 }): void {
    if (!this.isAlive) return
    this.isAlive = false
    this.#exit({ exitCode: null, signal: null, ...exit })
  }
}
