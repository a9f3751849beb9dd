import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { TurnBudget } from '../../../src/adapters/h3/turn-budget.ts'

const KIB = 1024

/** Flows without end that pass on a piece of 64 KiB each time that they may. */
function open(count: number) {
  const budget = new TurnBudget()
  const pieces = Array.from({ length: count }, () => 0)
  const flows = pieces.map((_, index) => ({
    goOn() {
      pieces[index]!++
      budget.spend(64 * KIB)
      budget.hold(this)
    },
  }))
  return { budget, pieces, flows }
}

test('a turn is used up by a MiB, and the next one is not', async () => {
  const budget = new TurnBudget()
  budget.spend(1024 * KIB - 1)
  expect(budget.isSpent).toBe(false)
  budget.spend(1)
  expect(budget.isSpent).toBe(true)
  await turn()
  expect(budget.isSpent).toBe(false)
})

test('flows that have more take turns: no turn passes on more than a MiB, and none waits longer than the others', async () => {
  const { pieces, flows } = open(100)
  for (const flow of flows) flow.goOn()
  for (let turns = 1; turns <= 50; turns++) {
    const before = pieces.reduce((sum, count) => sum + count, 0)
    await turn()
    expect(pieces.reduce((sum, count) => sum + count, 0) - before).toBe(16)
    expect(Math.max(...pieces) - Math.min(...pieces)).toBeLessThanOrEqual(1)
  }
})

test('one that is alone goes on with every turn', async () => {
  const { pieces, flows } = open(1)
  flows[0]!.goOn()
  for (let turns = 1; turns <= 5; turns++) {
    await turn()
    expect(pieces).toEqual([1 + turns])
  }
})
