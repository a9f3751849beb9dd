import type { WorkerAddress, WorkerBackend, WorkerExit, WorkerInstance } from 'corral'

/** Workers without a process. Each is ready at once, and gone as soon as it is asked to. */
export class MemoryBackend implements WorkerBackend {
  readonly #addresses: readonly WorkerAddress[]
  #launched = 0

  /** @param addresses where the workers claim to be, in order of their start; the last one counts for the rest. */
  constructor(addresses: readonly WorkerAddress[] = [{ host: '127.0.0.1', port: 9 }]) {
    this.#addresses = addresses
  }

  async launch(): Promise<WorkerInstance> {
    const address = this.#addresses[Math.min(this.#launched++, this.#addresses.length - 1)] as WorkerAddress
    let exit!: (exit: WorkerExit) => void
    const exited = new Promise<WorkerExit>((resolve) => {
      exit = resolve
    })
    return {
      address,
      exited,
      ready: () => Promise.resolve(),
      stop: () => exit({ exitCode: 0, signal: null }),
      kill: () => exit({ exitCode: null, signal: 'SIGKILL' }),
    }
  }
}
