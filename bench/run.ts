import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Answers } from './child.ts'
import { Child } from './child.ts'
import { mark, markedProcesses } from './procfs.ts'

export interface RunOptions {
  /** Short rounds and small numbers: shows that everything works, and measures nothing. */
  readonly quick: boolean
  /** Whether peers from `bench/node_modules` and nginx are measured, too. */
  readonly peers: boolean
  readonly rounds: number
  /** Length of a round of load. */
  readonly seconds: number
}

/** One run of the benchmark, and every process of it. */
export class Run implements AsyncDisposable {
  readonly options: RunOptions
  readonly #id = randomUUID()
  readonly #children = new Set<Child<Answers>>()
  readonly #killAll = () => this.#children.forEach((child) => child.kill())

  constructor(options: RunOptions) {
    this.options = options
    process.once('exit', this.#killAll)
  }

  /** The mark that every process of the run carries, for the environment of workers, which inherit nothing. */
  get mark(): Readonly<Record<string, string>> {
    return { [mark]: this.#id }
  }

  /** Starts a process that serves. @param module path of the compiled module, from this folder. */
  async fork<T extends Answers>(module: string, execArgv: readonly string[] = []): Promise<Child<T>> {
    const child = await Child.fork<T>(module, { env: this.mark, execArgv: ['--expose-gc', ...execArgv] })
    this.#children.add(child)
    return child
  }

  async close(child: Child<Answers>): Promise<void> {
    await child.close()
    this.#children.delete(child)
  }

  /** Ends every process. @throws when one is left that had no part in ending itself. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#children].map((child) => child.close()))
    this.#children.clear()
    process.off('exit', this.#killAll)
    let left = markedProcesses(this.#id)
    // wrk ends with its round, and what was killed needs a moment.
    for (let i = 0; i < 50 && left.length > 0; i++) {
      await delay(100)
      left = markedProcesses(this.#id)
    }
    for (const { pid } of left) process.kill(pid, 'SIGKILL')
    if (left.length > 0) throw new Error(`Left behind: ${left.map(({ command }) => command).join('; ')}`)
  }
}
