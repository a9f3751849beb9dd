import type { Gauge, Registry } from 'prom-client'
import type { Pool, PoolStats } from '../../index.ts'
import type { Gateway } from '../h3/index.ts'
import type { PromClient } from './prom-client.ts'

/** What the gauges read. Each is `undefined` while there is none. */
export interface Watched {
  pool: Pool | undefined
  gateway: Gateway | undefined
}

/** Gauges of what is now, read when they are scraped. */
export function addGauges(prom: PromClient, registers: Registry[], watched: Watched): void {
  const stats = once(() => watched.pool?.stats())
  const add = <L extends string>(name: string, help: string, labelNames: L[], read: () => Readings<L>): void => {
    const gauge: Gauge<L> = new prom.Gauge({
      name,
      help,
      labelNames,
      registers,
      collect: () => {
        gauge.reset()
        // Without labels that leaves a 0, which would be a reading.
        if (labelNames.length === 0) gauge.remove()
        for (const [labels, value] of read()) gauge.set(labels, value)
      },
    })
  }
  const addOne = (name: string, help: string, read: (now: PoolStats) => number | null | undefined) =>
    add(name, help, [], () => present(stats(), (now) => present(read(now) ?? undefined, (value) => [[{}, value]])))
  const addStates = (name: string, help: string, read: (now: PoolStats) => Record<string, number>) =>
    add(name, help, ['state'], () =>
      present(stats(), (now) => Object.entries(read(now)).map(([state, value]) => [{ state: toLabel(state) }, value])),
    )

  addStates('corral_workers', 'Workers by state.', ({ workers }) => statesOf(workers))
  addOne('corral_workers_max', 'Most workers at any time.', ({ size }) => size.max)
  addStates('corral_sessions', 'Live sessions by state.', ({ sessions }) => sessions)
  addOne('corral_leases', 'Open connections on live sessions.', ({ leases }) => leases)
  addOne('corral_queue_sessions', 'Sessions that wait for a worker.', ({ queue }) => queue.sessions)
  addOne('corral_queue_waiters', 'Requests that wait for the worker of a session.', ({ queue }) => queue.waiters)
  addOne('corral_tenants', 'Tenants that have a session or wait for one.', ({ tenants }) => tenants)
  add('corral_requests_in_progress', 'Requests and WebSockets that have a session and are not over.', ['kind'], () =>
    present(watched.gateway?.stats(), ({ requests, webSockets }) => [
      [{ kind: 'http' }, requests],
      [{ kind: 'websocket' }, webSockets],
    ]),
  )
  addStates('corral_pool_state', '1 for the state that the pool is in.', ({ state }) =>
    oneOf(state, ['running', 'draining', 'stopped']),
  )
  addStates('corral_breaker_state', '1 for the state of the circuit breaker on starting workers.', ({ breaker }) =>
    oneOf(breaker, ['closed', 'open', 'halfOpen']),
  )
  addStates(
    'corral_pressure_state',
    '1 for what the host is: whether it has enough left for new sessions.',
    ({ pressure }) => oneOf(pressure, ['relieved', 'pressed']),
  )
  addOne('corral_host_cpus', 'CPUs that the process may keep busy.', ({ host }) => host?.cpus)
  addOne('corral_host_cpu_usage_ratio', 'Share of them that was busy over the last seconds.', ({ host }) => host?.cpu)
  addOne(
    'corral_host_memory_bytes',
    'Memory of the machine, or of the cgroup that is nearest to its limit.',
    ({ host }) => host?.memory.total,
  )
  addOne('corral_host_memory_used_bytes', 'What is in use of it.', ({ host }) => host?.memory.used)
}

type Readings<L extends string> = readonly (readonly [Partial<Record<L, string>>, number])[]

/** No readings of what is not there yet. */
function present<T, L extends string>(now: T | undefined, read: (now: T) => Readings<L>): Readings<L> {
  return now === undefined ? [] : read(now)
}

/** Without the total: a sum over the states would count everything twice. */
function statesOf(workers: PoolStats['workers']): Record<string, number> {
  return Object.fromEntries(Object.entries(workers).filter(([state]) => state !== 'total'))
}

/** The same answer for all that ask within one turn: the gauges of a scrape belong together. */
function once<T>(read: () => T): () => T {
  let known: { readonly value: T } | undefined
  return () => {
    if (known) return known.value
    known = { value: read() }
    queueMicrotask(() => {
      known = undefined
    })
    return known.value
  }
}

function oneOf<T extends string>(current: T, all: readonly T[]): Record<string, number> {
  return Object.fromEntries(all.map((state) => [state, state === current ? 1 : 0]))
}

function toLabel(state: string): string {
  return state.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}
