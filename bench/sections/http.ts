import type { Load } from '../load.ts'
import { run as runLoad } from '../load.ts'
import { costOf, interleave, type Sample, type Samples } from '../rounds.ts'
import { cpuRatio, loadTable, target, type Target } from '../report.ts'
import { median } from '../statistics.ts'
import type { Section } from '../section.ts'
import { openSite, sessionIds, type Peer } from './_site.ts'

const ours = 'Corral, listening'
const mounted = 'Corral, as an h3 route'
const bare = 'undici, bare dispatch'
const bareMounted = 'undici, bare, in an h3 route'

const peers: readonly Peer[] = [
  { name: ours, module: 'corral' },
  { name: mounted, module: 'corral-mounted' },
  { name: bare, module: 'undici' },
  { name: bareMounted, module: 'undici-mounted' },
  { name: 'http-proxy', module: 'http-proxy', optional: true },
  { name: 'httpxy', module: 'httpxy', optional: true },
  { name: 'configurable-http-proxy', module: 'configurable-http-proxy', optional: true, single: true },
  { name: 'h3 proxyRequest', module: 'h3-proxy-request' },
  { name: 'nginx', module: 'nginx', optional: true },
  { name: 'node:http, no proxy', module: 'node-http' },
]

type Scenario = Pick<Load, 'path' | 'method' | 'connections'> & { readonly title: string; readonly sessions: number }

const scenarios: readonly Scenario[] = [
  { title: '64 B, 1 session', path: '/64B', method: 'GET', connections: 32, sessions: 1 },
  { title: '64 KiB, 1 session', path: '/64KiB', method: 'GET', connections: 32, sessions: 1 },
  { title: '10 MiB down, 1 session', path: '/10MiB', method: 'GET', connections: 4, sessions: 1 },
  { title: '10 MiB up, 1 session', path: '/10MiB', method: 'POST', connections: 4, sessions: 1 },
  { title: '64 B, 32 sessions', path: '/64B', method: 'GET', connections: 32, sessions: 32 },
  { title: '64 KiB, 32 sessions', path: '/64KiB', method: 'GET', connections: 32, sessions: 32 },
]

export const http: Section = {
  name: 'http',
  note: 'Requests on 32 keep-alive connections, 4 for 10 MiB; every answer is compared byte by byte. The upstream is one Node process.',
  async measure(run) {
    const { quick, rounds, seconds } = run.options
    const texts: string[] = []
    const targets: Target[] = []
    for (const count of [1, 32]) {
      const sessions = sessionIds(count)
      const { generator, subjects, close } = await openSite(run, sessions, peers)
      for (const { title, ...scenario } of scenarios.filter(({ sessions }) => sessions === count)) {
        const load = (seconds: number) => (subject: { port: number; base: string; pid: number }) =>
          costOf(subject.pid, () => runLoad({ ...subject, ...scenario, sessions, seconds }, generator))
        // The first round of each is for its compiler.
        await interleave(subjects, quick ? 0 : 1, load(seconds))
        const samples = await interleave(subjects, rounds, load(seconds))
        texts.push(`### ${title}\n\n${loadTable(samples)}`)
        targets.push(...targetsOf(title, samples))
      }
      await close()
    }
    return { targets, text: texts.join('\n\n') }
  },
}

function targetsOf(title: string, samples: Samples<Sample>): Target[] {
  const rows = (entries: readonly [string, string, `≤ ${number}`][]) =>
    entries
      .filter(([, other]) => samples.has(other))
      .map(([name, other, limit]) => target(`${title}: ${name}, CPU ÷ ${other}`, limit, cpuRatio(samples, name, other)))
  if (title === '64 B, 1 session') {
    return rows([
      [ours, bare, '≤ 1.15'],
      [ours, 'http-proxy', '≤ 0.5'],
      [ours, 'httpxy', '≤ 0.5'],
      [ours, 'configurable-http-proxy', '≤ 0.5'],
      [ours, 'h3 proxyRequest', '≤ 0.15'],
      [mounted, bareMounted, '≤ 1.15'],
    ])
  }
  const nginx = samples.get('nginx')
  if (!title.startsWith('10 MiB') || nginx === undefined) return []
  const rate = (taken: readonly Sample[]) => median(taken.map(({ operations, seconds }) => operations / seconds))
  return [target(`${title}: throughput ÷ nginx`, '≥ 0.9', rate(samples.get(ours) ?? []) / rate(nginx))]
}
