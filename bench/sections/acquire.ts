import { target } from '../report.ts'
import type { Section } from '../section.ts'
import type { answers } from '../subjects/pool.ts'
import { addCost, costTable, cpuOf, type Costs } from './_costs.ts'

const live = 'acquire and release of an active session'
const bare = 'tryAcquire and release of an active session'
const toggle = 'tryAcquire and release of an idle session: 0 → 1 → 0'
const granted = 'grant, with the end of the session before'
const alone = 'the same without waiters'
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
      const { enqueue, abort, grant, lease } = await child.ask('queue', waiting)
      add(costs, waiters('enqueue', waiting), enqueue)
      add(costs, waiters('abort', waiting), abort)
      add(costs, waiters(granted, waiting), grant)
      add(costs, alone, lease)
    }
    await run.close(child)
    // The end of one session and the lease to the next are what they are without a queue, too.
    const added = cpuOf(costs, waiters(granted, waiting)) - cpuOf(costs, alone)
    const targets = [
      target(live, '≤ 0.5', cpuOf(costs, live), ' µs'),
      target(toggle, '≤ 7', cpuOf(costs, toggle), ' µs'),
      ...['enqueue', 'abort', granted].map((what) =>
        target(waiters(what, waiting), '≤ 20', cpuOf(costs, waiters(what, waiting)), ' µs'),
      ),
      target(waiters('what they add to a grant', waiting), '≤ 20', added, ' µs'),
    ]
    return { targets, text: costTable(costs) }
  },
}
