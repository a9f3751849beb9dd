import { target } from '../report.ts'
import type { Section } from '../section.ts'
import type { answers } from '../subjects/pool.ts'
import { addCost, costTable, cpuOf, type Costs } from './_costs.ts'

const live = 'acquire and release of an active session'
const bare = 'tryAcquire and release of an active session'
const toggle = 'tryAcquire and release of an idle session: 0 → 1 → 0'
const waiters = (what: string, count: number) => `${count.toLocaleString('en')} waiters: ${what}`

export const acquire: Section = {
  name: 'acquire',
  note: 'Calls in one process, on workers without processes: what the pool itself costs.',
  async measure(run) {
    const { quick, rounds } = run.options
    const [calls, waiting] = quick ? [1_000, 200] : [200_000, 10_000]
    const child = await run.fork<typeof answers>('subjects/pool.js')
    const costs: Costs = new Map()
    // The first round is for the compiler.
    for (let round = -1; round < rounds; round++) {
      const add = round < 0 ? () => {} : addCost
      add(costs, live, await child.ask('acquireLive', calls))
      add(costs, bare, await child.ask('tryAcquireLive', calls))
      add(costs, toggle, await child.ask('toggle', calls))
      const { enqueue, abort, grant } = await child.ask('queue', waiting)
      add(costs, waiters('enqueue', waiting), enqueue)
      add(costs, waiters('abort', waiting), abort)
      add(costs, waiters('grant, with the end of the session before', waiting), grant)
    }
    await run.close(child)
    const targets = [
      target(live, '≤ 0.5', cpuOf(costs, live), ' µs'),
      target(toggle, '≤ 7', cpuOf(costs, toggle), ' µs'),
      ...[...costs.keys()]
        .filter((name) => name.includes('waiters'))
        .map((name) => target(name, '≤ 20', cpuOf(costs, name), ' µs')),
    ]
    return { targets, text: costTable(costs) }
  },
}
