import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { request } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { fileURLToPath } from 'node:url'
import { interleave } from '../rounds.ts'
import { target } from '../report.ts'
import type { Run } from '../run.ts'
import type { Section } from '../section.ts'
import { median } from '../statistics.ts'
import type { answers, Readiness } from '../subjects/processes.ts'
import { timesTable } from './_times.ts'

const ours = (readiness: Readiness) =>
  `Corral, ready by ${readiness === 'line' ? 'a line on stdout' : readiness.toUpperCase()}`
const bare = 'bare spawn, told by a line on stdout'

export const coldStart: Section = {
  name: 'cold-start',
  note: 'Milliseconds from the request to the first byte of its answer, minus what the worker itself took from the beginning of its process until it listened.',
  async measure(run) {
    const { quick, rounds } = run.options
    const subjects = [{ name: bare, measure: () => bareStart(run) }]
    for (const readiness of ['line', 'tcp', 'http'] as const) {
      const child = await run.fork<typeof answers>('subjects/processes.js')
      const port = await child.ask('open', readiness)
      let sessions = 0
      subjects.push({ name: ours(readiness), measure: () => ask(port, `s${sessions++}`, performance.now()) })
    }
    const samples = await interleave(subjects, quick ? 1 : rounds * 5, ({ measure }) => measure())
    const tcp = median(samples.get(ours('tcp')) ?? [])
    return { targets: [target(ours('tcp'), '≤ 10', tcp, ' ms')], text: timesTable(samples) }
  },
}

/** What it takes without a pool, a gateway and a probe: a process, and a request as soon as it says that it listens. */
async function bareStart(run: Run): Promise<number> {
  const start = performance.now()
  const path = fileURLToPath(new URL('../worker.js', import.meta.url))
  const worker = spawn(process.execPath, [path], { env: { ...process.env, ...run.mark, PORT: '0' } })
  try {
    const [line] = (await once(worker.stdout, 'data')) as [Buffer]
    return await ask(Number(/\d+/.exec(String(line))?.[0]), 'none', start)
  } finally {
    worker.kill('SIGKILL')
  }
}

/** @param start of what the worker's own time is taken from. */
async function ask(port: number, session: string, start: number): Promise<number> {
  const req = request({ port, host: '127.0.0.1', agent: false, headers: { 'x-session-id': session } }).end()
  const [answer] = (await once(req, 'response')) as [IncomingMessage]
  const total = performance.now() - start
  answer.resume()
  const { began, listening } = answer.headers
  const own = Number(listening) - Number(began)
  if (answer.statusCode !== 200 || !(own > 0)) throw new Error(`A cold start was answered with ${answer.statusCode}`)
  return total - own
}
