import {
  childrenOf,
  entries,
  poolMachine,
  type PoolContext,
  type PoolPolicy,
  type WorkerContext,
} from 'corral/machines'
import { initialTransition, transition, type AnyEventObject, type AnyMachineSnapshot } from 'xstate'
import { inertWorker, poolPolicy, workerPolicy } from './_inert.ts'

/** What happens to a pool from outside: a command to the pool, or something that befalls one of its workers. */
export interface Stimulus extends AnyEventObject {
  readonly type: 'stimulus'
  /** `pool`, or the id of a worker. */
  readonly to: string
  readonly event: AnyEventObject
}

/** A pool and its workers as pure snapshots. */
export interface System {
  readonly status: string
  readonly pool: AnyMachineSnapshot
  readonly workers: Readonly<Record<string, AnyMachineSnapshot>>
}

export const systemPolicy: PoolPolicy = {
  ...poolPolicy,
  worker: { ...workerPolicy, reuse: 'dirty', restartMinDelay: 5_000, restartMaxDelay: 9_000 },
}

interface Send {
  readonly input: { readonly id: string }
  readonly targetId: string
  readonly event: AnyEventObject
}

type Effect = readonly { readonly type: string; readonly params?: unknown }[]

/**
 * A pool with its workers, run without a single actor: what one machine's actions send, the other machine gets, in the
 * order in which actors would get it. An actor deals with an event while its sender waits, unless it is busy itself.
 */
export function startSystem(policy: PoolPolicy): System {
  const [pool, effects] = initialTransition(poolMachine, { policy })
  return run({ status: 'active', pool, workers: {} }, [], effects)
}

export function applyStimulus(system: System, { to, event }: Stimulus): System {
  return to === 'pool' ? run(system, [event], []) : tellWorker(system, to, event)
}

/** The stimuli that mean something in a state: the ones that the walks are made of. */
export function stimuliOf({ pool, workers }: System, madeLimit: number): Stimulus[] {
  const { made, queue } = pool.context as PoolContext
  if (made > madeLimit || pool.status !== 'active') return []
  const last = entries(queue).at(-1)?.token ?? 0
  const toPool: AnyEventObject[] = [
    { type: 'session.acquire', sessionId: `s${last + 1}`, token: last + 1 },
    ...(last > 0 ? [{ type: 'session.cancel', token: last }] : []),
    { type: 'pool.drain' },
    { type: 'host.pressed', cpu: 1, memory: null },
    { type: 'host.relieved', cpu: 0, memory: null },
    ...distinct(workers).map(([workerId]) => ({ type: 'worker.drain', workerId })),
    { type: 'xstate.after.shrinkAfter.pool.running.capacity.surplus' },
    { type: 'xstate.after.cooldown.pool.running.breaker.open' },
  ]
  const toWorker: AnyEventObject[] = [
    { type: 'xstate.done.actor.readiness' },
    { type: 'xstate.done.actor.session', output: { reason: 'released' } },
    { type: 'xstate.error.actor.liveness', error: new Error('no answer') },
    { type: 'worker.worn', cause: 'age' },
    { type: 'session.closing', sessionId: 's1', token: 1, reason: 'released' },
    { type: 'process.exited', exitCode: 1, signal: null },
    { type: 'xstate.after.restartDelay.worker.restarting' },
  ]
  return [
    ...toPool.filter((event) => pool.can(event)).map((event) => stimulus('pool', event)),
    ...distinct(workers).flatMap(([id, worker]) =>
      toWorker.filter((event) => worker.can(event)).map((event) => stimulus(id, event)),
    ),
  ]
}

/** Of the workers that are in the same state, one: what befalls it may as well befall another. */
function distinct(workers: System['workers']): [string, AnyMachineSnapshot][] {
  const live = Object.entries(workers).filter(([, { status }]) => status === 'active')
  return live.filter(([, worker], index) => live.findIndex(([, other]) => stateOf(other) === stateOf(worker)) === index)
}

function stateOf({ value, context }: AnyMachineSnapshot): string {
  return JSON.stringify([value, (context as WorkerContext).restarts])
}

/** What tells two systems apart. Workers are told apart by their state, not by their id. */
export function systemKey({ pool, workers }: System): string {
  const { queue, failures, unneeded, idle } = pool.context as PoolContext
  const states = Object.values(workers)
    .filter(({ status }) => status === 'active')
    .map(stateOf)
  return JSON.stringify([pool.value, states.toSorted(), queue.size, Math.min(failures, 2), unneeded, idle.length])
}

function stimulus(to: string, event: AnyEventObject): Stimulus {
  return { type: 'stimulus', to, event }
}

/** Lets the pool deal with its mailbox, and with what follows. */
function run(system: System, mailbox: AnyEventObject[], effects: Effect): System {
  let current = system
  let pending = effects
  for (;;) {
    for (const { type, params } of pending) {
      const { input, targetId, event } = params as Send
      if (type === 'xstate.spawnChild') current = spawnWorker(current, input.id, input, mailbox)
      if (type === 'xstate.sendTo') current = stepWorker(current, workerIn(current, targetId), event, mailbox)
    }
    const next = mailbox.shift()
    if (!next || current.pool.status !== 'active') return { ...current, status: current.pool.status }
    const [pool, more] = transition(poolMachine, current.pool as never, next as never)
    current = { ...current, pool }
    pending = more
  }
}

function tellWorker(system: System, id: string, event: AnyEventObject): System {
  const mailbox: AnyEventObject[] = []
  return run(stepWorker(system, id, event, mailbox), mailbox, [])
}

function spawnWorker(system: System, id: string, input: unknown, mailbox: AnyEventObject[]): System {
  const [worker, effects] = initialTransition(inertWorker, input as never)
  mailbox.push(...factsOf(effects))
  return settleWorker(system, id, worker, mailbox)
}

function stepWorker(system: System, id: string, event: AnyEventObject, mailbox: AnyEventObject[]): System {
  const before = system.workers[id]
  if (before?.status !== 'active') return system
  const [worker, effects] = transition(inertWorker, before as never, event as never)
  mailbox.push(...factsOf(effects))
  return settleWorker(system, id, worker, mailbox)
}

/** A process is started as soon as it is wanted, and a worker that has ended is done. */
function settleWorker(system: System, id: string, worker: AnyMachineSnapshot, mailbox: AnyEventObject[]): System {
  const next: System = { ...system, workers: { ...system.workers, [id]: worker } }
  const slot = slotsOf(system).get(id)
  if (worker.status === 'done')
    mailbox.push({ type: `xstate.done.actor.${slot}`, actorId: slot, output: worker.output })
  const isStarting = worker.matches('alive') && (worker.context as WorkerContext).process === null
  const started = { type: 'process.started', pid: 1, address: { host: '127.0.0.1', port: 1 } }
  return isStarting ? stepWorker(next, id, started, mailbox) : next
}

function slotsOf({ pool }: System): Map<string, string> {
  return childrenOf((pool.context as PoolContext).slots)
}

function workerIn(system: System, slot: string): string {
  return [...slotsOf(system)].find(([, taken]) => taken === slot)?.[0] ?? ''
}

function factsOf(effects: Effect): AnyEventObject[] {
  return (
    effects
      .filter(({ type }) => type === 'xstate.emit')
      .map(({ params }) => (params as { event: AnyEventObject }).event)
      // Emitted for listeners; the pool is told by the child's end.
      .filter(({ type }) => type !== 'worker.dead')
  )
}
