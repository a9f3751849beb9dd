/** A pool of real processes, and a gateway before it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
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
    const stall = await Stall.watch()
    const lease = await pool.acquire(`stall${started++}`)
    lease.release()
    return stall.end()
  },
  /** The same for Node's own `spawn` alone. */
  async stallOfSpawn(): Promise<number> {
    const stall = await Stall.watch()
    const child = spawn(process.execPath, [worker], { env: { ...process.env, PORT: '0' } })
    await once(child.stdout, 'data')
    const longest = stall.end()
    child.kill('SIGKILL')
    await once(child, 'exit')
    return longest
  },
  /** The same for as long as a worker takes to start, without one: what the machine adds. */
  async stallOfNothing(milliseconds: number): Promise<number> {
    const stall = await Stall.watch()
    await delay(milliseconds)
    return stall.end()
  },
}

const worker = fileURLToPath(new URL('../worker.js', import.meta.url))
const health = {
  tcp: {},
  http: { path: '/' },
  line: { line: 'listening' },
} satisfies Record<string, ProcessHealthOptions>

/** Of what is measured, in milliseconds. */
const RESOLUTION = 1

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

/** The longest time that the event loop stands still. */
class Stall {
  // A timer of libuv's own, which makes no garbage: turning the event loop by hand fills the young generation, and what that
  // takes to collect would be all that is seen.
  readonly #delays = monitorEventLoopDelay({ resolution: RESOLUTION })

  private constructor() {
    this.#delays.enable()
  }

  /** Resolves when it watches: what comes before the first beat of the timer is not seen. */
  static async watch(): Promise<Stall> {
    const stall = new Stall()
    await delay(10 * RESOLUTION)
    return stall
  }

  end(): number {
    this.#delays.disable()
    return Math.max(0, this.#delays.max / 1e6 - RESOLUTION)
  }
}
