import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { commands } from './_pool-commands.ts'
import { PoolWorld, settings } from './_pool-world.ts'
import { ScheduledBackend } from './_scheduled-backend.ts'
import { Tally } from './_tally.ts'

const tally = new Tally('in whatever order a pool hears')

/** After each act some of what has happened is heard of: this many things, in an order that the scheduler chooses. */
const act = fc.tuple(fc.oneof(...commands), fc.nat({ max: 3 }))

describe('in whatever order a pool hears of what its workers do, its invariants hold', () => {
  test('after every step, and at rest', { timeout: tally.timeout }, async () => {
    const sequence = fc.array(act, { minLength: 1, maxLength: 40, size: 'max' })
    await fc.assert(
      fc.asyncProperty(settings, sequence, fc.scheduler(), async (setting, acts, scheduler) => {
        const backend = new ScheduledBackend(scheduler)
        const world = await scheduler.waitFor(PoolWorld.open(setting, backend))
        try {
          for (const [command, heard] of acts) {
            await command.run(world)
            tally.step(world.pool)
            for (let i = 0; i < heard && scheduler.count() > 0; i++) {
              await scheduler.waitOne()
              await world.step()
            }
          }
        } finally {
          backend.isPrompt = true
          await scheduler.waitIdle()
          await world.rest()
          await world.close()
        }
        tally.sequence()
      }),
      tally.parameters(1_000),
    )
    expect(tally.commands).toBeGreaterThanOrEqual(tally.atLeast(1_000))
  })
})
