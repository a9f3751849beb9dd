import { MiB } from '../content.ts'
import { interleave } from '../rounds.ts'
import { target } from '../report.ts'
import type { Section } from '../section.ts'
import { median } from '../statistics.ts'
import type { answers } from '../subjects/processes.ts'
import { timesTable } from './_times.ts'

const ours = 'Corral'

export const spawn: Section = {
  name: 'spawn',
  note: 'Longest time in milliseconds that the event loop stands still while a worker starts, with a heap of 1 GiB in the process.',
  async measure(run) {
    const { quick, rounds } = run.options
    const child = await run.fork<typeof answers>('subjects/processes.js', ['--max-old-space-size=4096'])
    await child.ask('fill', (quick ? 64 : 1_024) * MiB)
    const subjects = [
      { name: ours, measure: () => child.ask('stallOfPool') },
      { name: 'child_process.spawn', measure: () => child.ask('stallOfSpawn') },
      { name: 'nothing, for 50 ms', measure: () => child.ask('stallOfNothing', 50) },
    ]
    const samples = await interleave(subjects, quick ? 1 : rounds * 5, ({ measure }) => measure())
    await run.close(child)
    return { targets: [target(ours, '≤ 3', median(samples.get(ours) ?? []), ' ms')], text: timesTable(samples) }
  },
}
