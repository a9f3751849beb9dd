import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { commands } from './_pool-commands.ts'
import { PoolWorld, settings } from './_pool-world.ts'
import { Tally } from './_tally.ts'

const tally = new Tally('whatever happens to a pool')

/** Long sequences find more than many: `size` keeps fast-check from preferring short ones. */
const sequence = fc.array(fc.oneof(...commands), { minLength: 1, maxLength: 60, size: 'max' })

describe('whatever happens to a pool, its invariants hold', () => {
  test('after every step, and at rest', { timeout: tally.timeout }, async () => {
    await fc.assert(
      fc.asyncProperty(settings, sequence, async (setting, acts) => {
        const world = await PoolWorld.open(setting)
        try {
          for (const act of acts) {
            await act.run(world)
            tally.step(world.pool)
          }
          await world.rest()
        } finally {
          await world.close()
        }
        tally.sequence()
      }),
      tally.parameters(2_000),
    )
    expect(tally.commands).toBeGreaterThanOrEqual(tally.atLeast(2_000))
  })
})
