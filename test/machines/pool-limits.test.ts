import { entries, type PoolContext, type PoolEvent, type PoolPolicy } from 'corral/machines'
import { describe, expect, test } from 'vitest'
import type { AnyEventObject } from 'xstate'
import { replay } from '../model/_chart.ts'
import { inertPool, poolPolicy } from '../model/_inert.ts'

type Rules = Partial<Omit<PoolPolicy, 'size'>> & { readonly size?: Partial<PoolPolicy['size']> }

/** What the pool has come to after the events, and all that it told and sent on the way. Its workers do nothing. */
function after({ size, ...rules }: Rules, ...events: (PoolEvent | AnyEventObject)[]) {
  const policy = { ...poolPolicy, queueLimit: 9, ...rules, size: { ...poolPolicy.size, min: 0, max: 9, ...size } }
  const steps = replay(inertPool, { policy }, events)
  const { snapshot } = steps.at(-1)!
  const context = snapshot.context as PoolContext
  return {
    snapshot,
    context,
    waiting: entries(context.queue).map(({ token }) => token),
    told: (type: string) => steps.flatMap(({ emitted }) => emitted).filter((fact) => fact.type === type),
    sent: (type: string) => steps.flatMap(({ sent }) => sent).filter(({ event }) => event.type === type),
  }
}

const acquire = (token: number, tenant?: string) => ({ type: 'session.acquire', sessionId: `s${token}`, token, tenant })
const spawned = (workerId: string) => ({ type: 'worker.ready', workerId, from: 'spawning' })
const leased = (workerId: string, token: number) => ({
  type: 'worker.leased',
  workerId,
  from: 'healthy',
  sessionId: `s${token}`,
  token,
})
const crashed = (workerId: string, from = 'spawning', served = false) => ({
  type: 'worker.crashed',
  workerId,
  from,
  served,
  failure: { code: 'WORKER_START_FAILED', message: `${workerId} broke`, exitCode: 1, signal: null, output: [] },
})
const dead = (slot: number, from: string) => ({
  type: `xstate.done.actor.slot${slot}`,
  actorId: `slot${slot}`,
  output: { workerId: `w${slot}`, from, reason: 'stopped', exitCode: 0, signal: null, failure: null },
})
const pressed = { type: 'host.pressed', cpu: 1, memory: null }
const relieved = { type: 'host.relieved', cpu: 0, memory: null }
const isOpen = ({ snapshot }: ReturnType<typeof after>) => snapshot.matches({ running: { breaker: 'open' } })

describe('failures in a row', () => {
  const rules = { breaker: { failures: 2, cooldown: 50 } }
  const some = [acquire(1), acquire(2), acquire(3)]

  test('open the breaker when they are as many as it takes', () => {
    expect(isOpen(after(rules, ...some, crashed('w1')))).toBe(false)
    expect(isOpen(after(rules, ...some, crashed('w1'), crashed('w2')))).toBe(true)
  })

  test('are forgotten once a session has a worker', () => {
    const pool = after(rules, ...some, crashed('w1'), spawned('w2'), leased('w2', 1), crashed('w3'))
    expect(pool.context.failures).toBe(1)
    expect(isOpen(pool)).toBe(false)
  })

  test('are not those of workers that had served a session', () => {
    const pool = after(rules, ...some, crashed('w1', 'spawning', true), crashed('w2', 'spawning', true))
    expect(pool.context).toMatchObject({ failures: 0, failure: null })
  })

  test('are forgotten when the breaker closes', () => {
    const open = [...some, crashed('w1'), crashed('w2')]
    const pool = after(rules, ...open, spawned('w3'))
    expect(pool.snapshot.value).toMatchObject({ running: { breaker: 'closed' } })
    expect(pool.context.failures).toBe(0)
    expect(pool.told('pool.breakerClosed')).toHaveLength(1)
    expect(isOpen(after(rules, ...open, spawned('w3'), acquire(4), acquire(5), crashed('w4')))).toBe(false)
  })

  test('refuse whoever waits, and whoever comes then, with the newest as the cause', () => {
    const { waiting, told } = after(rules, ...some, crashed('w1'), crashed('w2'), acquire(4))
    const failure = { message: 'w2 broke' }
    expect(waiting).toEqual([])
    expect(told('pool.breakerOpened')).toMatchObject([{ failure }])
    expect(told('session.refused')).toMatchObject(
      [1, 2, 3, 4].map((token) => ({ sessionId: `s${token}`, token, code: 'START_FAILED', failure })),
    )
  })

  test('are nothing that a pool that is drained later failed with', () => {
    const { snapshot, told } = after(rules, acquire(1), crashed('w1'), { type: 'pool.drain' })
    expect(snapshot).toMatchObject({ value: 'draining', context: { failure: null } })
    expect(told('session.refused')).toMatchObject([{ token: 1, code: 'POOL_DRAINING', failure: null }])
  })
})

describe('an idle worker', () => {
  const cancel = (token: number) => ({ type: 'session.cancel', token })
  const begin = [acquire(1), acquire(2), cancel(1), cancel(2), spawned('w1'), spawned('w2')]

  test('that is taken out of service is not leased any more', () => {
    const { context, sent } = after({}, ...begin, { type: 'worker.drain', workerId: 'w2', grace: 7 }, acquire(3))
    expect(context.idle).toEqual([])
    expect(sent('worker.stop')).toEqual([{ to: 'slot2', event: { type: 'worker.stop', grace: 7 } }])
    expect(sent('worker.lease')).toMatchObject([{ to: 'slot1', event: { token: 3 } }])
  })

  test('stays when another one is to be taken out of service that there is not', () => {
    const { context, sent } = after({}, ...begin, { type: 'worker.drain', workerId: 'w7' })
    expect(context.idle).toEqual(['w1', 'w2'])
    expect(sent('worker.stop')).toEqual([])
  })

  test('that became idle last is leased first', () => {
    expect(after({}, ...begin, acquire(3), acquire(4)).sent('worker.lease')).toMatchObject([
      { to: 'slot2', event: { token: 3 } },
      { to: 'slot1', event: { token: 4 } },
    ])
  })

  test('that nobody needed for shrinkAfter is stopped, those first that are idle longest', () => {
    const shrink = { type: 'xstate.after.shrinkAfter.pool.running.capacity.surplus' }
    const goes = { type: 'worker.draining', workerId: 'w1', from: 'healthy', failure: null }
    // The second became idle when the time of the first had begun.
    expect(
      after({}, ...begin, shrink)
        .sent('worker.stop')
        .map(({ to }) => to),
    ).toEqual(['slot1'])
    expect(after({}, ...begin, shrink).context.idle).toEqual(['w2'])
    const both = after({}, ...begin, shrink, goes, shrink)
    expect(both.sent('worker.stop').map(({ to }) => to)).toEqual(['slot1', 'slot2'])
    const needed = after({}, ...begin, acquire(3), leased('w2', 3), shrink)
    expect(needed.sent('worker.stop').map(({ to }) => to)).toEqual(['slot1'])
  })
})

describe('a pool that drains', () => {
  const drain = { type: 'pool.drain', grace: 5 }

  test('stops every worker that it has, each with the grace that connections get', () => {
    const stops = after({}, acquire(1), acquire(2), drain).sent('worker.stop')
    expect(stops).toEqual(['slot1', 'slot2'].map((to) => ({ to, event: { type: 'worker.stop', grace: 5 } })))
    const again = after({}, acquire(1), drain, { type: 'pool.drain', grace: 0 }).sent('worker.stop')
    expect(again.map(({ event }) => event['grace'])).toEqual([5, 0])
  })

  test('stops a worker again that is ready or starts again only then, and leases it to nobody', () => {
    const restarting = { type: 'worker.restarting', workerId: 'w1', from: 'restarting', attempt: 1, delay: 1 }
    for (const late of [[spawned('w1')], [crashed('w1'), restarting]]) {
      const { context, sent } = after({}, acquire(1), drain, ...late)
      expect(sent('worker.stop')).toHaveLength(2)
      expect(sent('worker.stop').at(-1)).toEqual({ to: 'slot1', event: { type: 'worker.stop', grace: 5 } })
      expect(context.idle).toEqual([])
    }
  })

  test('refuses who waits, who comes, and whose lease was refused', () => {
    const refused = { type: 'worker.leaseRefused', workerId: 'w1', sessionId: 's3', token: 3 }
    const { told, waiting } = after({}, acquire(1), drain, acquire(2), refused)
    expect(told('session.refused')).toMatchObject([1, 2, 3].map((token) => ({ token, code: 'POOL_DRAINING' })))
    expect(waiting).toEqual([])
  })
})

describe('sessions that wait', () => {
  test('take turns by tenant, and keep their turn when their lease was refused', () => {
    const queued = [acquire(1, 'a'), acquire(2, 'a'), acquire(3, 'b')]
    const turns = after({ size: { max: 2 } }, ...queued, spawned('w1'), spawned('w2'))
    const leases = turns.sent('worker.lease').map(({ event }) => event)
    expect(leases).toMatchObject([
      { token: 1, tenant: 'a' },
      { token: 3, tenant: 'b' },
    ])
    const back = { ...leases[0], type: 'worker.leaseRefused', workerId: 'w1' }
    const again = after({ size: { max: 2 } }, ...queued, spawned('w1'), back, spawned('w2'))
    expect(again.sent('worker.lease').map(({ event }) => event['token'])).toEqual([1, 1])
    expect(entries(again.context.queue)).toEqual([
      { sessionId: 's2', token: 2, tenant: 'a' },
      { sessionId: 's3', token: 3, tenant: 'b' },
    ])
  })

  test('are at most queueLimit; one more is refused', () => {
    const { told, waiting } = after({ queueLimit: 2, size: { max: 1 } }, acquire(1), acquire(2), acquire(3))
    expect(waiting).toEqual([1, 2])
    expect(told('session.refused')).toMatchObject([{ token: 3, code: 'QUEUE_FULL', failure: null }])
  })

  test('are none while a worker is idle, so that a queue of 0 refuses nobody then', () => {
    const { sent, told } = after({ queueLimit: 0, size: { min: 1 } }, spawned('w1'), acquire(1), acquire(2))
    expect(sent('worker.lease')).toMatchObject([{ event: { token: 1 } }])
    expect(told('session.refused')).toMatchObject([{ token: 2, code: 'QUEUE_FULL' }])
  })
})

describe('while the host is pressed', () => {
  const idle = [spawned('w1'), pressed]

  test('sessions wait though a worker is idle, at most queueLimit of them, and are leased once it is relieved', () => {
    const rules = { queueLimit: 1, size: { min: 1 } }
    const { told, waiting, sent } = after(rules, ...idle, acquire(1), acquire(2))
    expect(waiting).toEqual([1])
    expect(told('session.refused')).toMatchObject([{ token: 2, code: 'QUEUE_FULL' }])
    expect(sent('worker.lease')).toEqual([])
    expect(after(rules, ...idle, acquire(1), relieved).sent('worker.lease')).toMatchObject([{ event: { token: 1 } }])
  })

  test('new ones are refused, where the pool is told so, however short the queue is', () => {
    const { told } = after({ pressure: 'refuse', size: { min: 1 } }, ...idle, acquire(1))
    expect(told('session.refused')).toMatchObject([{ token: 1, code: 'HOST_PRESSURE', failure: null }])
  })

  test('workers are started up to the minimum, and neither for who waits nor as spares', () => {
    const rules = { size: { min: 1, warm: 1, startConcurrency: 3 } }
    const begin = [spawned('w1'), pressed, acquire(1), acquire(2)]
    // The first fills the pool, the second is the spare.
    expect(after(rules, ...begin).context.workers).toEqual(['w1', 'w2'])
    expect(after(rules, ...begin, dead(1, 'healthy')).context.workers).toEqual(['w2'])
    expect(after(rules, ...begin, dead(1, 'healthy'), dead(2, 'spawning')).context.workers).toEqual(['w3'])
    const later = after(rules, ...begin, dead(1, 'healthy'), dead(2, 'spawning'), relieved)
    expect(later.context.workers).toEqual(['w3', 'w4', 'w5'])
  })

  test('the minimum is probed for with one start at a time once starts have failed', () => {
    const lost = [1, 2].flatMap((slot) => [crashed(`w${slot}`, 'healthy'), dead(slot, 'restarting')])
    const cooled = { type: 'xstate.after.cooldown.pool.running.breaker.open' }
    const rules = { breaker: { failures: 1, cooldown: 50 }, size: { min: 2 } }
    expect(after(rules, spawned('w1'), spawned('w2'), pressed, ...lost, cooled).context.workers).toEqual(['w3'])
  })

  test('a session waits for a worker that is idle, though no other one can be started', () => {
    const rules = { breaker: { failures: 1, cooldown: 50 }, size: { min: 2 } }
    const begin = [spawned('w1'), spawned('w2'), crashed('w1', 'healthy'), pressed, acquire(1)]
    const { waiting, told } = after(rules, ...begin)
    expect(told('pool.breakerOpened')).toHaveLength(1)
    expect({ waiting, refused: told('session.refused') }).toEqual({ waiting: [1], refused: [] })
    expect(after(rules, ...begin, relieved).sent('worker.lease')).toMatchObject([{ to: 'slot2', event: { token: 1 } }])
  })
})
