import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from 'corral'
import { isCorralError } from 'corral'
import type { Client } from './_client.ts'
import type { Journal } from './_journal.ts'
import type { Pending } from './_pending.ts'
import type { Random } from './_random.ts'
import { markedProcesses, signal } from './_system.ts'
import type { Witness } from './_witness.ts'
import type { ChaosWorkers } from './_workers.ts'

/** What goes wrong next, and how often. */
const faults = {
  /** SIGKILL for a process that serves a session; for any. */
  killBound: 10,
  killAny: 6,
  killChild: 3,
  terminate: 5,
  /** SIGSTOP, for good; for a moment. */
  freeze: 4,
  pause: 4,
  /** A worker is told to misbehave. */
  misbehave: 34,
  /** `pool.end` of a live session. */
  end: 8,
  /** Many requests at once of an id that is new. */
  burst: 6,
  /** `pool.acquire` without the gateway: with a deadline, with a signal, released late and twice. */
  acquire: 20,
  /** For a while every worker exits at its start, which is what the circuit breaker is for. */
  badStarts: 2,
}

/** Of test/fixtures/chaos-worker.mjs. */
const verbs = [
  'exit',
  'exit-midway',
  'exit-after',
  'abort',
  'hang',
  'freeze',
  'stall',
  'unlisten',
  'sicken',
  'flood',
  'fork',
  'daemon',
  'fail-reset',
  'hang-reset',
  'hangup',
  'garbage',
  'garbage',
  'garbage',
  'echoes',
]

export interface FaultsOptions {
  readonly name: string
  readonly pool: Pool
  readonly workers: ChaosWorkers
  readonly witness: Witness
  readonly journal: Journal
  readonly pending: Pending
  readonly random: Random
  readonly client: Client
  readonly markValue: string
  /** Mean time between two faults, in milliseconds. */
  readonly every: number
}

export class Faults {
  readonly #options: FaultsOptions
  #bursts = 0

  constructor(options: FaultsOptions) {
    this.#options = options
  }

  async run(isOver: () => boolean): Promise<void> {
    const { random, every, journal, name } = this.#options
    while (!isOver()) {
      await delay(random.between(0, 2 * every))
      if (isOver()) return
      const fault = random.weighted(faults)
      journal.tally(`fault: ${fault}`)
      journal.note(`${name} fault: ${fault} ${this.#commit(fault)}`)
    }
  }

  /** @returns what it was done to. */
  #commit(fault: keyof typeof faults): string {
    const { random, workers, witness } = this.#options
    const bound = random.pick([...witness.live.values()])
    const any = random.pick([...workers.live.keys()])
    switch (fault) {
      case 'killBound':
        return this.#signal(bound?.pid, 'SIGKILL')
      case 'killAny':
        return this.#signal(any, 'SIGKILL')
      case 'killChild':
        return this.#killChild()
      case 'terminate':
        return this.#signal(bound?.pid, 'SIGTERM')
      case 'freeze':
        return this.#signal(random.chance(0.7) ? bound?.pid : any, 'SIGSTOP')
      case 'pause':
        return this.#pause(bound?.pid)
      case 'misbehave':
        return this.#misbehave(bound?.id)
      case 'end':
        return this.#end(bound?.id)
      case 'burst':
        return this.#burst()
      case 'acquire':
        return this.#acquire(random.chance(0.5) ? bound?.id : undefined)
      case 'badStarts':
        return this.#failStarts()
    }
  }

  #signal(pid: number | undefined, name: NodeJS.Signals): string {
    const { markValue, witness } = this.#options
    if (pid === undefined || !signal(pid, name, markValue)) return 'nobody'
    if (name === 'SIGKILL') witness.killed(pid)
    return `${name} ${pid}`
  }

  #killChild(): string {
    const { markValue, workers, random } = this.#options
    const children = markedProcesses(markValue).filter(({ pid, isDaemon }) => !isDaemon && !workers.live.has(pid))
    return this.#signal(random.pick(children)?.pid, 'SIGKILL')
  }

  #pause(pid: number | undefined): string {
    const { pending, random, markValue } = this.#options
    const time = random.between(100, 2_000)
    if (pid === undefined) return 'nobody'
    const resume = async () => {
      await delay(time)
      signal(pid, 'SIGCONT', markValue)
    }
    void pending.add('pause', resume())
    return `${this.#signal(pid, 'SIGSTOP')} for ${time} ms`
  }

  #failStarts(): string {
    const { pending, random, workers } = this.#options
    const time = random.between(500, 2_000)
    const fail = async () => {
      workers.failing++
      await delay(time)
      workers.failing--
    }
    void pending.add('bad starts', fail())
    return `for ${time} ms`
  }

  #misbehave(id: string | undefined): string {
    const { client, pending, random } = this.#options
    const verb = random.pick(verbs) ?? 'exit'
    const kind = String(random.between(0, 100))
    if (id === undefined) return 'nobody'
    const method = random.chance(0.5) ? 'GET' : 'POST'
    void pending.add(
      `${verb} of ${id}`,
      client.exchange(id, { method, path: `/do/${verb}`, headers: { 'x-kind': kind } }),
    )
    return `${id} ${verb}`
  }

  #end(id: string | undefined): string {
    const { pool, pending } = this.#options
    if (id === undefined) return 'nobody'
    void pending.add(`end of ${id}`, pool.end(id))
    return id
  }

  #burst(): string {
    const { client, pending, name } = this.#options
    const id = `${name}-burst-${++this.#bursts}`
    for (let i = 0; i < 8; i++) void pending.add(`burst ${id}`, client.exchange(id, { path: '/get' }))
    for (let i = 0; i < 3; i++) void pending.add(`burst ${id}`, client.converse(id, 3, 'close'))
    return id
  }

  #acquire(live: string | undefined): string {
    const { pending, random, name } = this.#options
    const id = live ?? `${name}-lease-${random.between(1, 1_000)}`
    const timeout = random.pick([0, 50, 500, 5_000]) ?? 0
    const abortAfter = random.chance(0.3) ? random.between(0, 100) : undefined
    const hold = random.between(0, 300)
    const isEnded = random.chance(0.3)
    void pending.add(`lease of ${id}`, this.#lease(id, { timeout, abortAfter, hold, isEnded }))
    return `${id}, timeout ${timeout}, abort ${abortAfter}`
  }

  async #lease(
    id: string,
    {
      timeout,
      abortAfter,
      hold,
      isEnded,
    }: { timeout: number; abortAfter: number | undefined; hold: number; isEnded: boolean },
  ): Promise<void> {
    const { pool, witness, journal, pending } = this.#options
    const gone = new AbortController()
    const timer = abortAfter === undefined ? undefined : setTimeout(() => gone.abort(), abortAfter)
    journal.tally('lease')
    try {
      const lease = await pool.acquire(id, { timeout, signal: gone.signal })
      witness.granted(id, lease)
      await delay(hold)
      const end = isEnded ? pending.add(`end of ${id}`, pool.end(id)) : undefined
      if (!isEnded) lease.release()
      await end
      // Of a session that is over, and once more.
      lease.release()
      lease.release()
    } catch (error) {
      if (!gone.signal.aborted && !isCorralError(error))
        journal.violate('unexpected answers', `acquire ${id}: ${String(error)}`)
      journal.tally(`lease refused: ${isCorralError(error) ? error.code : 'aborted'}`)
    } finally {
      clearTimeout(timer)
    }
  }
}
