import { plan, type Census, type SizeLimits } from 'corral/machines'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

const limits: fc.Arbitrary<SizeLimits> = fc
  .record({
    max: fc.integer({ min: 1, max: 30 }),
    min: fc.nat(30),
    warm: fc.nat(10),
    startConcurrency: fc.integer({ min: 1, max: 10 }),
  })
  .map(({ max, min, warm, startConcurrency }) => {
    const kept = Math.min(min, max)
    return { max, min: kept, warm: Math.min(warm, max - kept), startConcurrency }
  })

/** A pool within its limits, whatever its workers do. */
const pools = limits.chain((limits) =>
  fc
    .record({
      states: fc.array(fc.constantFrom('idle', 'leased', 'spawning', 'resetting', 'restarting', 'draining'), {
        maxLength: limits.max,
      }),
      waiting: fc.nat(40),
    })
    .map(({ states, waiting }) => {
      const count = (state: string) => states.filter((one) => one === state).length
      const census: Census = {
        slots: states.length,
        idle: count('idle'),
        spawning: count('spawning'),
        resetting: count('resetting'),
        restarting: count('restarting'),
        draining: count('draining'),
        waiting,
      }
      return { limits, census, leased: count('leased') }
    }),
)

describe('the sizing rules', () => {
  test('never go above max, nor above the start concurrency', () => {
    fc.assert(
      fc.property(pools, ({ limits, census }) => {
        const { start } = plan(limits, census)
        expect(start).toBeGreaterThanOrEqual(0)
        expect(census.slots + start).toBeLessThanOrEqual(limits.max)
        if (start > 0) expect(census.spawning + start).toBeLessThanOrEqual(limits.startConcurrency)
      }),
    )
  })

  test('start no fewer workers when more sessions wait', () => {
    fc.assert(
      fc.property(pools, fc.nat(10), ({ limits, census }, more) => {
        const before = plan(limits, census)
        const after = plan(limits, { ...census, waiting: census.waiting + more })
        expect(after.start).toBeGreaterThanOrEqual(before.start)
        expect(after.surplus).toBeLessThanOrEqual(before.surplus)
      }),
    )
  })

  test('give up only idle workers that nobody waits for', () => {
    fc.assert(
      fc.property(pools, ({ limits, census }) => {
        const { surplus } = plan(limits, census)
        expect(surplus).toBeGreaterThanOrEqual(0)
        expect(surplus).toBeLessThanOrEqual(Math.max(0, census.idle - census.waiting))
      }),
    )
  })

  test('do not start what they would give up', () => {
    fc.assert(
      fc.property(pools, ({ limits, census }) => {
        const { start, surplus } = plan(limits, census)
        expect(Math.min(start, surplus)).toBe(0)
      }),
    )
  })

  test('keep `min + warm` workers: giving the surplus up leaves at least so many', () => {
    fc.assert(
      fc.property(pools, ({ limits, census }) => {
        const { surplus } = plan(limits, census)
        const usable = census.slots - census.draining
        if (surplus > 0) expect(usable - surplus).toBeGreaterThanOrEqual(limits.min + limits.warm)
      }),
    )
  })

  test('come to rest: what they ask for, once done, asks for nothing more', () => {
    fc.assert(
      fc.property(pools, ({ limits, census, leased }) => {
        let idle = census.idle + census.spawning + census.resetting + census.restarting
        let { waiting } = census
        let busy = leased
        for (let round = 0; round < 200; round++) {
          const served = Math.min(idle, waiting)
          idle -= served
          waiting -= served
          busy += served
          const now = { slots: idle + busy, idle, spawning: 0, resetting: 0, restarting: 0, draining: 0, waiting }
          const { start, surplus } = plan(limits, now)
          if (start === 0 && surplus === 0) break
          idle += start - surplus
          expect(round).toBeLessThan(199)
        }
        const target = Math.min(limits.max, Math.max(limits.min, busy + waiting) + limits.warm)
        expect(idle + busy).toBe(Math.max(target, busy))
      }),
    )
  })

  test('let a waiting session wait for a backoff only when the pool is full', () => {
    fc.assert(
      fc.property(pools, ({ limits, census }) => {
        const { start } = plan(limits, census)
        const coming = census.idle + census.spawning + census.resetting + start
        const isFull = census.slots + start >= limits.max
        const isBusyStarting = census.spawning + start >= limits.startConcurrency
        if (!isFull && !isBusyStarting) expect(coming).toBeGreaterThanOrEqual(census.waiting)
      }),
    )
  })
})
