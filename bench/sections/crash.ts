import { interleave } from '../rounds.ts'
import { target } from '../report.ts'
import type { Section } from '../section.ts'
import { median } from '../statistics.ts'
import type { answers } from '../subjects/processes.ts'
import { timesTable } from './_times.ts'

const name = 'SIGKILL → session.lost'

export const crash: Section = {
  name: 'crash',
  note: 'Milliseconds from the kill of a worker that has a session until the pool tells that the session is lost.',
  async measure(run) {
    const { quick, rounds } = run.options
    const child = await run.fork<typeof answers>('subjects/processes.js')
    const samples = await interleave([{ name }], quick ? 2 : rounds * 10, () => child.ask('crash'))
    await run.close(child)
    return { targets: [target(name, '≤ 5', median(samples.get(name) ?? []), ' ms')], text: timesTable(samples) }
  },
}
