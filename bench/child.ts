import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

/** What a process of the benchmark can be asked, by name. Arguments and results are plain JSON. */
export type Answers = Readonly<Record<string, (argument: never) => unknown>>

interface Question {
  readonly id: number
  readonly name: string
  readonly argument: unknown
}

interface Reply {
  readonly id: number
  readonly result?: unknown
  readonly error?: string
}

/**
 * Makes this process answer its parent. It ends when the parent does, whatever ends the parent.
 *
 * @param end is waited for before the process exits.
 */
export function serve(answers: Answers, end: () => unknown = () => {}): void {
  // A terminal signals the whole group; the parent decides what ends when.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})
  process.on('message', (question: Question) => void answer(answers, question))
  process.once('disconnect', () => {
    void Promise.resolve(end()).finally(() => process.exit())
  })
  process.send?.({ id: 0 } satisfies Reply)
}

async function answer(answers: Answers, { id, name, argument }: Question): Promise<void> {
  let reply: Reply
  try {
    const handler = answers[name]
    if (handler === undefined) throw new Error(`There is no ${name} here`)
    reply = { id, result: await handler(argument as never) }
  } catch (error) {
    reply = { id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }
  }
  if (process.connected) process.send?.(reply)
}

/** A process that {@link serve}s. */
export class Child<T extends Answers> {
  readonly module: string
  readonly #process: ChildProcess
  readonly #waiting = new Map<number, { resolve: (result: never) => void; reject: (error: Error) => void }>()
  #asked = 0
  #ended: Error | undefined

  private constructor(module: string, child: ChildProcess) {
    this.module = module
    this.#process = child
    child.on('message', ({ id, result, error }: Reply) => {
      const waiter = this.#waiting.get(id)
      this.#waiting.delete(id)
      if (error === undefined) waiter?.resolve(result as never)
      else waiter?.reject(new Error(`${module}: ${error}`))
    })
    child.once('exit', (code, signal) => this.#fail(new Error(`${module} ended by itself: ${signal ?? code}`)))
    child.once('error', (error) => this.#fail(error))
  }

  /**
   * @param module path of the compiled module, from this folder.
   * @returns the process, once it serves.
   */
  static async fork<T extends Answers>(module: string, { env, execArgv }: ForkOptions): Promise<Child<T>> {
    const path = fileURLToPath(new URL(module, import.meta.url))
    const child = new Child<T>(module, fork(path, { env: { ...process.env, ...env }, execArgv: [...execArgv] }))
    await child.#promise(0)
    return child
  }

  get pid(): number {
    return this.#process.pid ?? 0
  }

  ask<K extends keyof T & string>(
    name: K,
    ...[argument]: Parameters<T[K]> extends [infer A] ? [A] : []
  ): Promise<Awaited<ReturnType<T[K]>>> {
    const id = ++this.#asked
    const promise = this.#promise<Awaited<ReturnType<T[K]>>>(id)
    if (this.#ended === undefined) this.#process.send({ id, name, argument } satisfies Question)
    return promise
  }

  /** Lets the process end by itself within `grace` milliseconds, then kills it. Resolves once it is gone. */
  async close(grace = 10_000): Promise<void> {
    if (this.#ended !== undefined) return
    const exit = once(this.#process, 'exit')
    if (this.#process.connected) this.#process.disconnect()
    const timer = new AbortController()
    const late = delay(grace, true, { signal: timer.signal }).catch(() => false)
    if ((await Promise.race([exit, late])) === true) this.kill()
    await exit
    timer.abort()
  }

  kill(): void {
    this.#process.kill('SIGKILL')
  }

  #promise<R>(id: number): Promise<R> {
    return new Promise((resolve, reject) => {
      if (this.#ended) reject(this.#ended)
      else this.#waiting.set(id, { resolve, reject })
    })
  }

  #fail(error: Error): void {
    this.#ended ??= error
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
  }
}

export interface ForkOptions {
  readonly env: Readonly<Record<string, string>>
  /** Options for Node itself. */
  readonly execArgv: readonly string[]
}
