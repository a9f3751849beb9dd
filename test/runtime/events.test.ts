import type { PoolEvent, PoolEventType } from 'corral'
import { describe, expect, test } from 'vitest'
import type { AnyActorRef } from 'xstate'
import { FakeBackend } from '../support/fake-backend.ts'
import { FakeHost } from '../support/fake-host.ts'
import { openPool, rejection, startPool, uncaught } from '../support/scene.ts'
import { settled } from '../support/virtual-clock.ts'

const error = expect.objectContaining({ code: 'WORKER_START_FAILED' })
const failure = expect.objectContaining({ code: expect.any(String), message: expect.any(String), output: [] })
const address = { host: '127.0.0.1', port: expect.any(Number) }
const session = { sessionId: 'a', token: expect.any(Number), workerId: expect.any(String) }

/** Every event, with every field that is documented of it, and no other. */
const shapes: { [K in PoolEventType]: Omit<PoolEvent<K>, 'type'> } = {
  'worker.spawning': { workerId: expect.any(String), incarnation: expect.any(Number) },
  'worker.ready': { workerId: expect.any(String), pid: expect.any(Number), address },
  'worker.resetting': { workerId: expect.any(String) },
  'worker.worn': { workerId: expect.any(String), cause: 'memory' },
  'worker.draining': { workerId: expect.any(String), failure: null },
  'worker.crashed': { workerId: expect.any(String), reason: 'crashed', failure },
  'worker.restarting': { workerId: expect.any(String), attempt: 1, delay: expect.any(Number) },
  'worker.dead': { workerId: expect.any(String), reason: expect.any(String), exitCode: 0, signal: null },
  'session.started': session,
  'session.lost': {
    ...session,
    reason: 'crashed',
    exitCode: 1,
    signal: null,
    output: [],
    error: expect.objectContaining({ code: 'SESSION_LOST' }),
  },
  'session.ended': { ...session, reason: expect.any(String) },
  'pool.breakerOpened': { error },
  'pool.breakerHalfOpened': {},
  'pool.breakerClosed': {},
  'pool.pressed': { cpu: 0.25, memory: 0.9 },
  'pool.relieved': { cpu: null, memory: 0.5 },
  'pool.draining': {},
  'pool.stopped': {},
}

describe('events', () => {
  test('each fire with the documented fields', async () => {
    const host = new FakeHost()
    const { acquire, pool, backend, clock, told } = await openPool({
      host,
      pressure: { memory: 0.9 },
      size: { min: 1, max: 2 },
      session: { reuse: { reset: () => Promise.resolve() } },
      breaker: { failures: 1, cooldown: 1_000 },
      restart: { minDelay: 10 },
      recycle: { memory: 1_000 },
    })
    const lease = await acquire('a')
    lease.release()
    await pool.end('a')
    await acquire('a')
    backend.worker('w1').exit()
    await settled()
    await clock.advance(10)
    await acquire('a')
    backend.script.push((worker) => worker.exit({ exitCode: 2 }))
    await rejection(acquire('b'))
    await clock.advance(1_000)
    await acquire('b')
    host.sample({ cpu: 0.25, memory: 0.9 })
    host.sample({ cpu: null, memory: 0.5 })
    backend.alive.at(-1)!.memory = 1_001
    await clock.advance(10_000)
    await pool.close()
    for (const [type, shape] of Object.entries(shapes)) {
      const events = told(type as PoolEventType)
      expect(events.length, type).toBeGreaterThan(0)
      expect(events.at(type === 'worker.dead' ? -1 : 0), type).toEqual({ type, ...shape })
    }
  })

  test('are told to the listeners of their type and to those of every type, in order of registration', async () => {
    const { acquire, pool } = await openPool()
    const calls: string[] = []
    pool.on('*', ({ type }) => calls.push(`* ${type}`))
    pool.on('session.started', () => calls.push('first'))
    pool.on('session.started', () => calls.push('second'))
    await acquire('a')
    expect(calls).toEqual(['first', 'second', '* session.started'])
  })

  test('are not told any more to a listener that was taken off; one function may be on twice', async () => {
    const { acquire, pool } = await openPool({ size: { min: 3 } })
    let calls = 0
    const listener = () => void calls++
    const off = pool.on('session.started', listener)
    pool.on('session.started', listener)
    await acquire('a')
    expect(calls).toBe(2)
    off()
    off()
    await acquire('b')
    expect(calls).toBe(3)
  })

  test('are told after the pool has dealt with them', async () => {
    const { acquire, pool } = await openPool()
    const seen: unknown[] = []
    pool.on('session.started', () => seen.push(pool.stats().sessions.active))
    pool.on('session.ended', () => seen.push(pool.stats().sessions.active))
    const lease = await acquire('a')
    lease.release()
    await pool.end('a')
    expect(seen).toEqual([1, 0])
  })

  test('go on when a listener throws, whose error surfaces as an uncaught exception', async () => {
    const { acquire, pool } = await openPool({ size: { min: 2 } })
    const calls: string[] = []
    pool.on('session.started', () => {
      throw new Error('a bug in a listener')
    })
    pool.on('session.started', ({ sessionId }) => calls.push(sessionId))
    const errors = await uncaught(async () => {
      await acquire('a')
      await acquire('b')
    })
    expect(calls).toEqual(['a', 'b'])
    expect(errors).toEqual([new Error('a bug in a listener'), new Error('a bug in a listener')])
    expect(pool.stats()).toMatchObject({ state: 'running', sessions: { active: 2 } })
  })

  test('of a crash come in order: lost, ended, crashed, restarting', async () => {
    const { acquire, backend, events } = await openPool()
    await acquire('a')
    events.length = 0
    backend.worker('w1').exit()
    await settled()
    expect(events.map(({ type }) => type)).toEqual([
      'session.lost',
      'session.ended',
      'worker.crashed',
      'worker.restarting',
    ])
  })

  test('from the very start are told to onEvent', async () => {
    const types: string[] = []
    const { starting } = startPool({ onEvent: ({ type }) => types.push(type) })
    await starting
    expect(types).toEqual(['worker.spawning', 'worker.ready'])
  })
})

describe('an inspector', () => {
  test('sees the pool, its workers and its sessions', async () => {
    const seen = new Set<string>()
    const { acquire } = await openPool({
      inspect: (event) => {
        if (event.type !== '@xstate.actor') return
        const { id } = event.actorRef as AnyActorRef
        seen.add(id.startsWith('x:') ? 'root' : id)
      },
    })
    await acquire('a')
    for (const id of ['root', 'slot1', 'process', 'readiness', 'liveness', 'session']) expect([...seen]).toContain(id)
  })

  test('that throws does not disturb the pool', async () => {
    const errors = await uncaught(async () => {
      const { acquire, pool } = await openPool({
        inspect: () => {
          throw new Error('a bug in an inspector')
        },
      })
      const lease = await acquire('a')
      lease.release()
      await pool.end('a')
      expect(pool.stats()).toMatchObject({ state: 'running', totals: { sessionsEnded: 1 } })
      await pool.close()
    })
    expect(errors.length).toBeGreaterThan(0)
  })
})

test('the root of the actors can be watched: workers are its children, a session is a child of its worker', async () => {
  const { acquire, pool } = await openPool({}, new FakeBackend())
  await acquire('a')
  const worker = pool.actor.getSnapshot().children['slot1']
  expect(worker?.getSnapshot()).toMatchObject({ value: { alive: { serving: { leased: 'bound' } } } })
  expect(worker?.getSnapshot().children['session']?.getSnapshot()).toMatchObject({ value: 'active' })
  expect(JSON.parse(JSON.stringify(pool.actor.getSnapshot().context))).toEqual(pool.actor.getSnapshot().context)
})

test('however many workers come and go, the kinds of events that the charts see stay few', async () => {
  const types = new Set<string>()
  const { acquire, pool } = await openPool({
    size: { min: 1, max: 3 },
    inspect: (event) => void (event.type === '@xstate.event' && types.add(event.event.type)),
  })
  const seen: number[] = []
  for (let i = 0; i < 60; i++) {
    const lease = await acquire(`s${i}`)
    lease.release()
    await pool.end(`s${i}`)
    await settled()
    seen.push(types.size)
  }
  expect(pool.stats().totals.workersStarted).toBeGreaterThan(60)
  // XState remembers every type for ever.
  expect(seen.at(-1)).toBe(seen[20])
})
