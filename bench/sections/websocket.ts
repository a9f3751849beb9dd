import { cpuRatio, loadTable, target, type Target } from '../report.ts'
import { costOf, interleave } from '../rounds.ts'
import type { Section } from '../section.ts'
import { openSite, sessionIds, type Peer } from './_site.ts'

const ours = 'Corral'
const crossws = 'crossws createWebSocketProxy'

export const socketPeers: readonly Peer[] = [
  { name: ours, module: 'corral' },
  { name: crossws, module: 'crossws', single: true },
  { name: 'http-proxy', module: 'http-proxy', optional: true },
  { name: 'httpxy', module: 'httpxy', optional: true },
  { name: 'configurable-http-proxy', module: 'configurable-http-proxy', optional: true, single: true },
  { name: 'nginx', module: 'nginx', optional: true },
]

const scenarios = [
  { title: '64 B echo', kind: 'echo', connections: 32, limit: '≤ 0.8' },
  { title: '64 KiB stream', kind: 'stream', connections: 4, limit: '≤ 0.5' },
] as const

export const websocket: Section = {
  name: 'websocket',
  note: 'An operation is a message: there and back for the echo, on 32 connections; from the worker to the client for the stream, on 4.',
  async measure(run) {
    const { quick, rounds, seconds } = run.options
    const texts: string[] = []
    const targets: Target[] = []
    const sessions = sessionIds(1)
    const { generator, subjects, close } = await openSite(run, sessions, socketPeers)
    for (const { title, kind, connections, limit } of scenarios) {
      const load = (seconds: number) => (subject: { port: number; pid: number }) =>
        costOf(subject.pid, () => generator.ask('socket', { port: subject.port, kind, connections, sessions, seconds }))
      // The first round of each is for its compiler.
      await interleave(subjects, quick ? 0 : 1, load(seconds))
      const samples = await interleave(subjects, rounds, load(seconds))
      texts.push(`### ${title}\n\n${loadTable(samples)}`)
      targets.push(target(`${title}: CPU ÷ ${crossws}`, limit, cpuRatio(samples, ours, crossws)))
    }
    await close()
    return { targets, text: texts.join('\n\n') }
  },
}
