import { createPool } from 'corral'
import type { Pool, PoolOptions } from 'corral'
import { createGateway, fromHeader, fromPath } from 'corral/h3'
import type { GatewayListener } from 'corral/h3'
import { Client } from './_client.ts'
import { Faults } from './_faults.ts'
import type { Journal } from './_journal.ts'
import { Pending, until } from './_pending.ts'
import type { Random } from './_random.ts'
import { isAlive, markedProcesses } from './_system.ts'
import { user } from './_users.ts'
import { Witness } from './_witness.ts'
import { ChaosWorkers } from './_workers.ts'

export interface SceneOptions {
  readonly name: string
  readonly address: 'port' | 'socket'
  readonly users: number
  readonly pool: Pick<PoolOptions, 'size' | 'session'> & { readonly size: { min: number; max: number; warm: number } }
  /** Mean time between two faults, in milliseconds. */
  readonly faultEvery: number
  readonly markValue: string
}

/** What is given to things that never come to an end, in milliseconds. */
const LIMIT = 60_000
const LOOK_EVERY = 100

/** A pool of real processes behind a gateway, its users, and what goes wrong. */
export class Scene {
  readonly #options: SceneOptions
  readonly #random: Random
  readonly #journal: Journal
  readonly #witness: Witness
  readonly #workers: ChaosWorkers
  readonly #pending = new Pending()
  readonly #pool: Pool
  readonly #listener: GatewayListener
  readonly #looks: NodeJS.Timeout
  #loads = 0
  #stop: (() => Promise<void>) | undefined

  static async open(options: SceneOptions, random: Random, journal: Journal): Promise<Scene> {
    const { name, address, markValue } = options
    const witness = new Witness(name, journal)
    const workers = new ChaosWorkers(
      { name, address, markValue, max: options.pool.size.max },
      random.stream('workers'),
      journal,
    )
    const pool = await createPool({
      worker: workers.backend,
      size: { startConcurrency: 6, shrinkAfter: 1_000, ...options.pool.size },
      session: { grace: 500, ...options.pool.session },
      queue: { limit: 30, timeout: 6_000 },
      restart: { limit: 2, minDelay: 50, maxDelay: 400 },
      breaker: { failures: 6, cooldown: 500 },
      onEvent: (event) => {
        const { type, ...about } = event
        journal.note(`${name} ${type} ${JSON.stringify(about, brief)}`)
        witness.observe(event)
      },
    })
    const gateway = createGateway(pool, {
      sessionId: [fromHeader('x-session-id'), fromPath()],
      upstream: { connectTimeout: 2_000, headersTimeout: 3_000, bodyTimeout: 3_000 },
      onError: ({ code }) => journal.tally(`gateway: ${code}`),
      trace: (req) => {
        const nonce = req.headers['x-nonce']
        if (typeof nonce !== 'string') return undefined
        witness.arrived(nonce)
        return { end: () => witness.over(nonce) }
      },
    })
    const listener = await gateway.listen({ port: 0 })
    return new Scene(options, { random, journal, witness, workers, pool, listener })
  }

  private constructor(
    options: SceneOptions,
    parts: {
      random: Random
      journal: Journal
      witness: Witness
      workers: ChaosWorkers
      pool: Pool
      listener: GatewayListener
    },
  ) {
    this.#options = options
    this.#random = parts.random
    this.#journal = parts.journal
    this.#witness = parts.witness
    this.#workers = parts.workers
    this.#pool = parts.pool
    this.#listener = parts.listener
    this.#looks = setInterval(() => this.#look(), LOOK_EVERY)
  }

  get processes(): number {
    return this.#workers.count
  }

  get liveSessions(): number {
    return this.#witness.live.size
  }

  /** Sends in the users and lets things go wrong, until {@link calm}. */
  load(): void {
    const { name, users, faultEvery, markValue } = this.#options
    const random = this.#random.stream(`load ${++this.#loads}`)
    const common = { pool: this.#pool, pending: this.#pending, journal: this.#journal }
    const client = (of: string, connections?: number) =>
      new Client(this.#listener.url, this.#witness, this.#journal, random.stream(`client ${of}`), connections)
    const shared = [1, 2, 3].map((n) => `${name}-shared-${n}`)
    const clients = Array.from({ length: users }, (_, index) => client(`user ${index}`))
    const saboteur = client('faults', 20)
    let isOver = false
    const running = clients.map((client, index) => {
      const options = { ...common, name: `${name}-${this.#loads}-${index}`, client, shared, longestPause: 2_500 }
      return user({ ...options, random: random.stream(`user ${index}`) }, () => isOver)
    })
    const faults = new Faults({
      ...common,
      name: `${name}-${this.#loads}`,
      workers: this.#workers,
      witness: this.#witness,
      random: random.stream('faults'),
      client: saboteur,
      markValue,
      every: faultEvery,
    })
    running.push(faults.run(() => isOver))
    this.#workers.armed = true
    this.#stop = async () => {
      isOver = true
      this.#workers.armed = false
      const all = this.#pending.add('users', Promise.all(running))
      for (const name of await this.#pending.settled(LIMIT)) this.#journal.violate('waiters unsettled', name)
      await Promise.all([...clients, saboteur].map((it) => it.close()))
      all.catch((error: unknown) => this.#journal.violate('uncaught errors', String(error)))
    }
  }

  /** Ends the load, and sees to it that the pool comes to rest. */
  async calm(): Promise<void> {
    const { name, pool } = this.#options
    await this.#stopLoad()
    const rest = pool.size.min + pool.size.warm
    const isAtRest = () => {
      const { workers, sessions, leases, queue } = this.#pool.stats()
      const busy = sessions.active + sessions.idle + sessions.closing + leases + queue.sessions + queue.waiters
      return busy === 0 && workers.total === rest && workers.healthy === rest && this.#workers.count === rest
    }
    if (!(await until(isAtRest, LIMIT))) {
      const stats = this.#pool.stats()
      const text = `${name}: ${JSON.stringify(stats)}, ${this.#workers.count} processes`
      if (stats.leases > 0) this.#journal.violate('leases left', text)
      if (stats.queue.waiters > 0) this.#journal.violate('waiters unsettled', text)
      this.#journal.violate('pool not back at min + warm', text)
    }
    this.#settle()
    await this.#expectNoConnection()
  }

  /** Closes the pool while the load goes on, then the gateway. */
  async close(): Promise<void> {
    const { name, markValue } = this.#options
    const isDrained = this.#random.stream('close').chance(0.5)
    this.#journal.note(`${name} ${isDrained ? 'drain' : 'close'}`)
    const closed = isDrained ? this.#pool.drain({ deadline: 800 }) : this.#pool.close()
    let isClosed = false
    void closed.then(() => {
      isClosed = true
      this.#expectNoProcess('when the pool was closed')
    })
    if (!(await until(() => isClosed, LIMIT))) this.#journal.violate('waiters unsettled', `${name}: closing the pool`)
    await this.#stopLoad()
    this.#settle()
    await this.#expectNoConnection()
    await this.#listener.close({ grace: 0 })
    clearInterval(this.#looks)
    this.#expectNoProcess('at the end')
    this.#journal.note(`${name} closed, ${markedProcesses(markValue).length} daemons left`)
  }

  async #stopLoad(): Promise<void> {
    await this.#stop?.()
    this.#stop = undefined
  }

  #settle(): void {
    const { name } = this.#options
    this.#witness.settle()
    const { totals, leases } = this.#pool.stats()
    if (leases > 0) this.#journal.violate('leases left', `${name}: ${leases}`)
    if (totals.sessionsStarted !== totals.sessionsEnded) {
      this.#journal.violate('sessions started and not ended', `${name}: ${JSON.stringify(totals)}`)
    }
  }

  #expectNoProcess(when: string): void {
    const { name, markValue } = this.#options
    const left = markedProcesses(markValue).filter(({ isDaemon }) => !isDaemon)
    for (const { pid, command } of left) this.#journal.violate('processes left', `${name} ${when}: ${pid} ${command}`)
  }

  async #expectNoConnection(): Promise<void> {
    let count = 0
    const ask = () => this.#listener.server.getConnections((_error, found) => (count = found))
    ask()
    const isGone = await until(() => {
      const isNone = count === 0
      ask()
      return isNone
    }, 10_000)
    if (!isGone) this.#journal.violate('sockets left', `${this.#options.name}: ${count} connections of clients`)
  }

  #look(): void {
    const { name, pool } = this.#options
    const { workers } = this.#pool.stats()
    if (workers.total > pool.size.max || this.#workers.count > pool.size.max) {
      this.#journal.violate(
        'more workers than max',
        `${name}: ${JSON.stringify(workers)}, ${this.#workers.count} processes`,
      )
    }
    this.#witness.look(isAlive)
  }
}

/** Events hold errors and the last output of workers. */
function brief(key: string, value: unknown): unknown {
  if (key === 'output' || key === 'error') return undefined
  return key === 'failure' && value !== null ? (value as { message: string }).message : value
}
