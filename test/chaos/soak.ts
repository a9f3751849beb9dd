/**
 * Chaos for longer: `npm run soak -- --minutes N [--seed S]`. Prints a line per rest and a verdict; exits with 1 when something was
 * violated, with 130 or 143 when a signal ended it early. Runs the build in dist, as users would.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { runChaos } from './_chaos.ts'
import type { ChaosState } from './_chaos.ts'
import { findGrowth } from './_growth.ts'
import type { Sample } from './_growth.ts'
import { Journal } from './_journal.ts'
import { details, verdict, violations } from './_report.ts'
import { holdings, lastingHandles } from './_system.ts'

/** With the rest that follows, a bit less than a minute. */
const LOAD = 48_000
const MB = 1024 * 1024
const columns = [
  'minute',
  'RSS MB',
  'heap MB',
  'handles',
  'fds',
  'processes',
  'HTTP',
  'sockets',
  'answers',
  'launches',
  'faults',
  'sessions',
  'losses',
  'violated',
]

const { values } = parseArgs({ options: { minutes: { type: 'string' }, seed: { type: 'string' } } })
const minutes = Number(values.minutes ?? 3)
const seed = Number(values.seed ?? Math.floor(Math.random() * 1_000_000))
if (!(minutes > 0) || !Number.isSafeInteger(seed)) {
  console.error('usage: npm run soak -- --minutes N [--seed S]')
  process.exit(2)
}

const journal = new Journal()
const samples: Sample[] = []
const start = performance.now()
const end = start + minutes * 60_000
const interrupted = new AbortController()
let exitCode = 0

for (const [name, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  process.on(name, () => {
    console.log(`${name}: closing`)
    exitCode = code
    interrupted.abort()
  })
}
process.on('uncaughtException', (error) => journal.violate('uncaught errors', error.stack ?? String(error)))

console.log(`soak of ${minutes} minutes, seed ${seed}, node ${process.version}, process ${process.pid}`)
console.log(row(columns))
const { daemons } = await runChaos({
  seed,
  journal,
  load: Math.min(LOAD, minutes * 60_000),
  goesOn: () => performance.now() < end,
  signal: interrupted.signal,
  onRest: async (state) => {
    const sample = await measure()
    samples.push(sample)
    report(sample, state)
  },
})
for (const text of findGrowth(samples)) journal.violate('growth', text)

console.log(`\nverdict after ${((performance.now() - start) / 60_000).toFixed(1)} minutes, seed ${seed}`)
console.log(verdict(journal, daemons))
console.log(`\n${details(journal)}`)
if (journal.violations.length > 0) {
  console.log(`\nVIOLATED\n${violations(journal)}`)
  process.exitCode = 1
} else {
  console.log('\nclean')
  process.exitCode = exitCode
}

/** At rest and after a garbage collection, so that it can be compared. Probes open connections now and then: the least counts. */
async function measure(): Promise<Sample> {
  await delay(500)
  globalThis.gc?.()
  await delay(200)
  globalThis.gc?.()
  const { rss, heapUsed } = process.memoryUsage()
  let descriptors = Number.POSITIVE_INFINITY
  let handles = Number.POSITIVE_INFINITY
  for (let i = 0; i < 5; i++) {
    const held = holdings()
    descriptors = Math.min(descriptors, held.descriptors)
    const lasting = lastingHandles.reduce((sum, kind) => sum + (held.handles.get(kind) ?? 0), 0)
    handles = Math.min(handles, lasting)
    await delay(50)
  }
  return { rss: rss / MB, heap: heapUsed / MB, descriptors, handles }
}

function report({ rss, heap, descriptors, handles }: Sample, { processes }: ChaosState): void {
  const count = (name: string) => journal.tallies.get(name) ?? 0
  const violated = [...journal.counts.values()].reduce((sum, value) => sum + value, 0)
  console.log(
    row([
      ((performance.now() - start) / 60_000).toFixed(1),
      rss.toFixed(0),
      heap.toFixed(1),
      handles,
      descriptors,
      processes,
      count('http request'),
      count('socket'),
      count('answer'),
      journal.sum('launch: '),
      journal.sum('fault: '),
      count('session'),
      journal.sum('lost: '),
      violated,
    ]),
  )
}

function row(cells: readonly (string | number)[]): string {
  return cells.map((cell) => String(cell).padStart(9)).join(' ')
}
