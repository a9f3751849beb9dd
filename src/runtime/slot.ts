import type { ProcessExit } from '../machines/failure.ts'
import type { WorkerBackend, WorkerInstance } from './backend.ts'
import type { WorkerInfo } from './lease.ts'

/** What the actors of one worker share: its instance, from the launch until nothing of it is left. */
export class Slot {
  readonly workerId: string
  /** When the launch began, by the pool's clock. */
  readonly startedAt: number
  /** The instance. Stays pending for ever when it could not be launched: then only {@link exit} settles. */
  readonly launched: Promise<WorkerInstance>
  /** Resolves once nothing of the worker is left, or it could not be launched. Never rejects. */
  readonly exit: Promise<ProcessExit>
  /** Grows with every chunk that a lease reported: see {@link Lease.touch}. */
  activity = 0

  readonly #unwanted = new AbortController()
  #instance: WorkerInstance | undefined

  constructor(backend: WorkerBackend, workerId: string, now: number) {
    this.workerId = workerId
    this.startedAt = now
    const launch = this.#launch(backend)
    this.launched = launch.catch(() => new Promise<never>(() => {}))
    this.exit = launch.then(exitOf, launchFailure)
  }

  /** The instance, once it is there. */
  get instance(): WorkerInstance | undefined {
    return this.#instance
  }

  /** What callers see of the worker. Only for a worker that was launched. */
  info(): WorkerInfo {
    if (!this.#instance) throw new Error(`Worker ${this.workerId} was not launched`)
    return { id: this.workerId, pid: this.#instance.pid, address: this.#instance.address }
  }

  stop(): void {
    this.#unwanted.abort()
    this.#instance?.stop()
  }

  kill(): void {
    this.#unwanted.abort()
    this.#instance?.kill()
  }

  async #launch(backend: WorkerBackend): Promise<WorkerInstance> {
    const instance = await backend.launch({ workerId: this.workerId, signal: this.#unwanted.signal })
    this.#instance = instance
    // It was stopped while it was being launched: nobody has used it, so there is nothing to be polite about.
    if (this.#unwanted.signal.aborted) instance.kill()
    return instance
  }
}

async function exitOf(instance: WorkerInstance): Promise<ProcessExit> {
  const { exitCode, signal, message, cause, retry } = await instance.exited
  return { exitCode, signal, message, cause, retry, output: instance.output?.() }
}

function launchFailure(error: unknown): ProcessExit {
  return { exitCode: null, signal: null, message: error instanceof Error ? error.message : String(error) }
}
