import { figure, table } from '../report.ts'
import type { Samples } from '../rounds.ts'
import { percentile } from '../statistics.ts'

export function timesTable(samples: Samples<number>): string {
  const rows = [...samples].map(([name, taken]) => [
    name,
    ...[50, 90, 99].map((percent) => figure(percentile(taken, percent))),
  ])
  return table(['', 'p50 ms', 'p90 ms', 'p99 ms'], rows)
}
