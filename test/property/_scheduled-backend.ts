import type { LaunchContext, WorkerExit, WorkerInstance } from 'corral'
import type fc from 'fast-check'
import { FakeBackend, type FakeWorker } from '../support/fake-backend.ts'

/**
 * A fake backend whose promises settle when a scheduler says so: a launch, a readiness, a probe or an exit that has
 * happened is heard of in any order, and any time later.
 */
export class ScheduledBackend extends FakeBackend {
  readonly #scheduler: fc.Scheduler
  readonly #told = new Set<number>()
  /** Whether everything is heard of at once, as it is with other backends. */
  isPrompt = false

  constructor(scheduler: fc.Scheduler) {
    super()
    this.#scheduler = scheduler
  }

  override async launch(context: LaunchContext): Promise<WorkerInstance> {
    const worker = await super.launch(context)
    const { workerId } = context
    await this.#heard(Promise.resolve(), `launch ${workerId}`)
    return {
      pid: worker.pid ?? 0,
      address: worker.address,
      exited: worker.exited.then(async (exit: WorkerExit) => {
        await this.#heard(Promise.resolve(), `exit ${workerId}`)
        this.#told.add(worker.pid ?? 0)
        return exit
      }),
      ready: async (signal) => {
        await worker.ready(signal)
        await this.#heard(Promise.resolve(), `ready ${workerId}`)
      },
      check: async (signal) => {
        await worker.check?.(signal)
        await this.#heard(Promise.resolve(), `probe ${workerId}`)
      },
      stop: () => worker.stop(),
      kill: () => worker.kill(),
    }
  }

  override hasToldOf(worker: FakeWorker): boolean {
    return this.#told.has(worker.pid)
  }

  async #heard(promise: Promise<void>, label: string): Promise<void> {
    if (!this.isPrompt) await this.#scheduler.schedule(promise, label)
  }
}
