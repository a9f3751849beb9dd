import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'
import { processWorker } from 'corral'
import type { LaunchContext, ProcessWorkerOptions, WorkerBackend, WorkerInstance } from 'corral'
import type { Journal } from './_journal.ts'
import type { Random } from './_random.ts'
import { hasGroup, mark } from './_system.ts'

const script = fileURLToPath(new URL('../../test/fixtures/chaos-worker.mjs', import.meta.url))

/** How a worker starts, and how often. `late`: somebody else has its port by the time that it listens. */
const starts = { ok: 74, slow: 10, sick: 4, exit: 6, late: 4, never: 2 }
const traits = { stubborn: 0.12, forks: 0.2, daemon: 0.04, floods: 0.08, dies: 0.1 }

export interface ChaosWorkersOptions {
  readonly name: string
  readonly address: 'port' | 'socket'
  readonly max: number
  /** Value of the mark, in the environment of everything that is started. */
  readonly markValue: string
}

/** Starts real processes, each with a behaviour drawn for it, and counts them from outside of the pool. */
export class ChaosWorkers {
  /** While `false`, workers start as they should. */
  armed = false
  /** While above 0, no worker gets as far as to be ready. */
  failing = 0
  /** Processes that exist, by id. */
  readonly live = new Map<number, string>()
  readonly backend: WorkerBackend
  readonly #options: ChaosWorkersOptions
  readonly #random: Random
  readonly #journal: Journal
  /** Launches whose worker is not gone. */
  #count = 0

  constructor(options: ChaosWorkersOptions, random: Random, journal: Journal) {
    this.#options = options
    this.#random = random
    this.#journal = journal
    const launch = (context: LaunchContext) => this.#launch(context)
    this.backend = { ...processWorker(this.#commandOf('ok', '')), launch }
  }

  get count(): number {
    return this.#count
  }

  async #launch(context: LaunchContext): Promise<WorkerInstance> {
    const { max, name } = this.#options
    if (++this.#count > max)
      this.#journal.violate('more workers than max', `${name}: ${this.#count} processes, not ${max}`)
    const [start, behaviour] = this.#draw()
    try {
      const command = this.#commandOf(start, behaviour)
      const instance = await processWorker(command).launch(context)
      return this.#watch(instance, context, `${start} ${behaviour}`)
    } catch (error) {
      this.#count--
      throw error
    }
  }

  #watch(instance: WorkerInstance, { workerId }: LaunchContext, behaviour: string): WorkerInstance {
    const { name } = this.#options
    const pid = instance.pid ?? 0
    this.live.set(pid, workerId)
    this.#journal.note(`${name} launched ${workerId} (${pid}) ${behaviour}`)
    this.#journal.tally(`launch: ${behaviour.split(/[: ]/)[0]}`)
    const stranger = behaviour.startsWith('late') ? occupy(instance) : undefined
    const exited = instance.exited.then((exit) => {
      this.#count--
      this.live.delete(pid)
      this.#journal.note(`${name} gone ${workerId} (${pid}) ${exit.signal ?? exit.exitCode}`)
      if (hasGroup(pid))
        this.#journal.violate('processes left', `of the group of ${workerId} (${pid}), which counts as gone`)
      stranger?.close()
      return exit
    })
    const check = instance.check?.bind(instance)
    return {
      pid,
      address: instance.address,
      exited,
      ready: (signal) => instance.ready(signal),
      ...(check && { check }),
      stop: () => instance.stop(),
      kill: () => instance.kill(),
      output: () => instance.output?.() ?? [],
    }
  }

  /** Draws the same number of times whatever comes of it, so that one launch does not change the next. */
  #draw(): [start: string, traits: string] {
    const random = this.#random
    const kind = random.weighted(starts)
    const time = random.between(200, 1_200)
    const drawn = Object.entries(traits).filter(([, probability]) => random.chance(probability))
    const dieAt = random.between(3, 40)
    if (!this.armed) return ['ok', '']
    if (this.failing > 0) return ['exit:3', '']
    const argument = { slow: time, sick: time, late: 300 + time, exit: 3 }[kind as string]
    const start = argument === undefined ? kind : `${kind}:${argument}`
    const isPossible = kind !== 'late' || this.#options.address === 'port'
    return [isPossible ? start : 'ok', drawn.map(([trait]) => (trait === 'dies' ? `dies:${dieAt}` : trait)).join(',')]
  }

  #commandOf(start: string, behaviour: string): ProcessWorkerOptions {
    const { address, markValue } = this.#options
    return {
      command: process.execPath,
      args: [script, `{{${address}}}`],
      env: { CHAOS_START: start.replace('late', 'slow'), CHAOS_TRAITS: behaviour, [mark]: markValue },
      health: { path: '/health', startTimeout: 6_000, startAttempts: 2, interval: 500, timeout: 1_000, failures: 3 },
      stop: { grace: 600 },
    }
  }
}

/** Takes the worker's port before it does, and answers everything. */
function occupy({ address }: WorkerInstance) {
  if (!('port' in address)) return undefined
  const server = createServer((_request, response) => response.end('a stranger'))
  server.on('error', () => {})
  server.listen(address.port, address.host)
  return {
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}
