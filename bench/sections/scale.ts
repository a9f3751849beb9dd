import { figure, table, target } from '../report.ts'
import type { Section } from '../section.ts'
import type { answers } from '../subjects/pool.ts'
import { addCost, cpuOf, type Costs } from './_costs.ts'

const operations = {
  start: 'start of a worker',
  lease: 'lease to a warm worker, ended again',
  live: 'tryAcquire and release of an active session',
  stats: 'stats()',
  close: 'close(), a worker',
} as const

export const scale: Section = {
  name: 'scale',
  note: 'CPU µs of each operation, by the number of workers; the workers have no processes.',
  async measure(run) {
    const { quick, rounds } = run.options
    const sizes = quick ? [2, 10] : [10, 100, 1_000, 4_000]
    const count = quick ? 50 : 2_000
    const child = await run.fork<typeof answers>('subjects/pool.js')
    const bySize = new Map<number, Costs>(sizes.map((size) => [size, new Map()]))
    // The first round is for the compiler.
    await child.ask('scale', { workers: 10, count })
    for (let round = 0; round < rounds; round++) {
      for (const [workers, costs] of bySize) {
        const taken = await child.ask('scale', { workers, count })
        for (const [name, cost] of Object.entries(taken)) addCost(costs, name, cost)
      }
    }
    await run.close(child)
    const cost = (size: number | undefined, name: string) => cpuOf(bySize.get(size ?? 0) ?? new Map(), name)
    const few = cost(sizes[0], 'lease')
    const many = cost(sizes.at(-1), 'lease')
    const rows = Object.entries(operations).map(([key, name]) => [
      name,
      ...sizes.map((size) => figure(cost(size, key))),
    ])
    return {
      targets: [
        target(`${operations.lease}, ${sizes[0]} workers`, '≤ 80', few, ' µs'),
        target(`the same with ${sizes.at(-1)} workers ÷ with ${sizes[0]}`, '≤ 1.3', many / few),
      ],
      text: table(['', ...sizes.map((size) => `${size.toLocaleString('en')} workers`)], rows),
    }
  },
}
