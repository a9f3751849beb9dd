import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { commands, runs } from './_pool-commands.ts'
import { PoolWorld, settings } from './_pool-world.ts'

describe('whatever happens to a pool, its invariants hold', () => {
  test('after every step, and at rest', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(settings, fc.commands(commands, { maxCommands: 40, size: 'max' }), async (setting, sequence) => {
        const world = await PoolWorld.open(setting)
        try {
          await fc.asyncModelRun(() => ({ model: {}, real: world }), sequence)
          await world.rest()
        } finally {
          await world.close()
        }
      }),
      { numRuns: runs, interruptAfterTimeLimit: 20_000, markInterruptAsFailure: false, endOnFailure: false },
    )
    expect(runs).toBeGreaterThan(0)
  })
})
