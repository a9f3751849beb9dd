import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { commands } from './_pool-commands.ts'
import { PoolWorld, settings } from './_pool-world.ts'

/** `CORRAL_RUNS` asks for more. */
const numRuns = Number(process.env['CORRAL_RUNS'] ?? 700)

/** Long sequences find more than many: `size` keeps fast-check from preferring short ones. */
const sequence = fc.array(fc.oneof(...commands), { minLength: 1, maxLength: 60, size: 'max' })

describe('whatever happens to a pool, its invariants hold', () => {
  test('after every step, and at rest', { timeout: 600_000 }, async () => {
    let steps = 0
    await fc.assert(
      fc.asyncProperty(settings, sequence, async (setting, acts) => {
        const world = await PoolWorld.open(setting)
        try {
          for (const act of acts) await act.run(world)
          await world.rest()
        } finally {
          await world.close()
        }
        steps += acts.length
      }),
      { numRuns },
    )
    expect(steps).toBeGreaterThan(numRuns)
  })
})
