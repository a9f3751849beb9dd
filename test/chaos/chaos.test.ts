import { expect, test } from 'vitest'
import { runChaos } from './_chaos.ts'
import { Journal, rules } from './_journal.ts'
import { details, verdict, violations } from './_report.ts'

const LOAD = 10_000
const RESTS = 2

// Half of it reads /proc.
test.runIf(process.platform === 'linux')(
  'sessions keep to their workers, and every loss is told once, whatever goes wrong',
  { timeout: 240_000 },
  async () => {
    const seed = Number(process.env.CHAOS_SEED ?? Math.floor(Math.random() * 1_000_000))
    const journal = new Journal()
    console.log(`chaos: CHAOS_SEED=${seed} npx vitest run test/chaos`)
    const { daemons } = await runChaos({ seed, journal, load: LOAD, goesOn: (rests) => rests < RESTS })
    const table = `chaos, seed ${seed}\n${verdict(journal, daemons)}`
    console.log(process.env.CHAOS_DETAILS ? `${table}\n${details(journal)}` : table)
    const none = Object.fromEntries(rules.map((rule) => [rule, 0]))
    expect(Object.fromEntries(journal.counts), `CHAOS_SEED=${seed}\n${violations(journal)}`).toEqual(none)
    // It proves nothing unless there was something to go wrong.
    for (const name of ['answer', 'session', 'lost: crashed', 'ended: expired', 'ended: released', 'socket message']) {
      expect(journal.tallies.get(name), name).toBeGreaterThan(0)
    }
  },
)
