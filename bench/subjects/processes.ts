/** A pool of real processes, and a gateway before it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Pool, ProcessHealthOptions } from 'corral'
import { createPool, processWorker } from 'corral'
import { createGateway, fromHeader } from 'corral/h3'
import { serve } from '../child.ts'
import { mark } from '../procfs.ts'

export type Readiness = keyof typeof health

export const answers = {
  /** Opens a gateway whose sessions each get a new worker. @returns its port. */
  async open(readiness: Readiness): Promise<number> {
    pool = await openPool(readiness)
    const { port } = await createGateway(pool, { sessionId: fromHeader('x-session-id') }).listen({ port: 0 })
    return port
  },
  /** Milliseconds from SIGKILL to `session.lost`. */
  async crash(): Promise<number> {
    pool ??= await openPool('line')
    const lease = await pool.acquire('crash')
    let told = 0
    const lost = new Promise<void>((resolve) => {
      const stop = (pool as Pool).on('session.lost', () => {
        told = performance.now()
        stop()
        resolve()
      })
    })
    const start = performance.now()
    process.kill(lease.worker.pid as number, 'SIGKILL')
    await lost
    return told - start
  },
  /** Fills the heap with objects, in bytes. */
  fill(bytes: number): void {
    while (process.memoryUsage().heapUsed < bytes) {
      ballast.push(Array.from({ length: 10_000 }, (_, i) => ({ i, text: `${i}` })))
    }
    globalThis.gc?.()
  },
  /** Longest time that the event loop stood still while a worker was started, in milliseconds. */
  async stallOfPool(): Promise<number> {
    pool ??= await openPool('line')
    const stall = new Stall()
    const lease = await pool.acquire(`stall${started++}`)
    lease.release()
    return stall.end()
  },
  /** The same for Node's own `spawn` alone. */
  async stallOfSpawn(): Promise<number> {
    const stall = new Stall()
    const child = spawn(process.execPath, [worker], { env: { ...process.env, PORT: '0' } })
    await once(child.stdout, 'data')
    const longest = stall.end()
    child.kill('SIGKILL')
    await once(child, 'exit')
    return longest
  },
  /** The same for as long as a worker takes to start, without one: what the machine adds. */
  async stallOfNothing(milliseconds: number): Promise<number> {
    const stall = new Stall()
    const end = performance.now() + milliseconds
    while (performance.now() < end) await new Promise((resolve) => setImmediate(resolve))
    return stall.end()
  },
}

const worker = fileURLToPath(new URL('../worker.js', import.meta.url))
const health = {
  tcp: {},
  http: { path: '/' },
  line: { line: 'listening' },
} satisfies Record<string, ProcessHealthOptions>

const ballast: unknown[] = []
let pool: Pool | undefined
let started = 0

if (process.send) serve(answers, () => pool?.close({ force: true }))

function openPool(readiness: Readiness): Promise<Pool> {
  return createPool({
    worker: processWorker({
      command: process.execPath,
      args: [worker],
      env: { [mark]: process.env[mark] },
      health: health[readiness],
    }),
    size: { min: 0, max: 4 },
    session: { idleTtl: 0, grace: 0 },
  })
}

/** Watches the event loop: every turn of it is noted, so it is never idle. */
class Stall {
  #last = performance.now()
  #longest = 0
  #ended = false

  constructor() {
    this.#turn()
  }

  end(): number {
    this.#ended = true
    this.#note()
    return this.#longest
  }

  #turn(): void {
    this.#note()
    if (!this.#ended) setImmediate(() => this.#turn())
  }

  #note(): void {
    const now = performance.now()
    this.#longest = Math.max(this.#longest, now - this.#last)
    this.#last = now
  }
}
