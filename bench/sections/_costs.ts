import type { Cost } from '../cost.ts'
import { figure, table } from '../report.ts'
import { median } from '../statistics.ts'

/** The costs of one operation, in order of the rounds. */
export type Costs = Map<string, Cost[]>

export function addCost(costs: Costs, name: string, cost: Cost): void {
  const known = costs.get(name)
  if (known === undefined) costs.set(name, [cost])
  else known.push(cost)
}

/** The median of what an operation cost in processor time. */
export function cpuOf(costs: Costs, name: string): number {
  return median(costs.get(name)?.map(({ cpu }) => cpu) ?? [])
}

export function costTable(costs: Costs): string {
  const rows = [...costs].map(([name, taken]) => [
    name,
    figure(median(taken.map(({ cpu }) => cpu))),
    figure(median(taken.map(({ wall }) => wall))),
  ])
  return table(['', 'CPU µs/op', 'wall µs/op'], rows)
}
