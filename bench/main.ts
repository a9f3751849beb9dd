/**
 * Measures Corral beside what one would take instead: `npm run bench -- [section…] [options]`. Prints a table per section and writes
 * them to bench/RESULTS.md. Nothing is asserted on time; a wrong or missing answer fails the run.
 */
import { parseArgs } from 'node:util'
import { circumstances, sectionText, writeResults } from './report.ts'
import { Run } from './run.ts'
import type { Section } from './section.ts'
import { acquire } from './sections/acquire.ts'
import { coldStart } from './sections/cold-start.ts'
import { crash } from './sections/crash.ts'
import { http } from './sections/http.ts'
import { memory } from './sections/memory.ts'
import { scale } from './sections/scale.ts'
import { spawn } from './sections/spawn.ts'
import { websocket } from './sections/websocket.ts'

const sections: readonly Section[] = [http, websocket, acquire, scale, coldStart, crash, memory, spawn]
const names = sections.map(({ name }) => name)
const usage = `usage: npm run bench -- [${names.join(' | ')}]… [--rounds N] [--seconds S] [--quick] [--no-peers] [--output FILE]`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  allowNegative: true,
  options: {
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    quick: { type: 'boolean', default: false },
    peers: { type: 'boolean', default: true },
    output: { type: 'string' },
  },
})
const { quick, peers, output = quick ? undefined : 'bench/RESULTS.md' } = values
const rounds = Number(values.rounds ?? (quick ? 1 : 5))
const seconds = Number(values.seconds ?? (quick ? 0.1 : 2))
const wrong = positionals.find((name) => !names.includes(name))
if (wrong !== undefined || !(rounds >= 1) || !(seconds > 0)) {
  console.error(wrong === undefined ? usage : `There is no section ${wrong}.\n${usage}`)
  process.exit(2)
}

const interrupted = new Promise<never>((_, reject) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => reject(new Error(`Given up after ${signal}`)))
  }
})
const texts = new Map<string, string>()
try {
  await using run = new Run({ quick, peers, rounds, seconds })
  for (const section of sections) {
    if (positionals.length > 0 && !positionals.includes(section.name)) continue
    const findings = await Promise.race([section.measure(run), interrupted])
    const text = sectionText(section.name, `${section.note}\n\n${circumstances(rounds)}`, findings)
    console.log(text)
    texts.set(section.name, text)
  }
  if (output !== undefined) writeResults(output, names, texts)
} catch (error) {
  console.error(error)
  process.exitCode = 1
}
