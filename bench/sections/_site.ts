import { spawnSync } from 'node:child_process'
import type { Child } from '../child.ts'
import type { Generator } from '../load.ts'
import type { ProxyAddress, ProxyAnswers, Site } from '../proxy.ts'
import type { Run } from '../run.ts'
import type { answers as upstreamAnswers } from '../upstream.ts'

export interface Subject extends Required<ProxyAddress> {
  readonly name: string
  readonly child: Child<ProxyAnswers>
}

export interface Peer {
  /** As the table calls it. */
  readonly name: string
  /** Its file in `subjects`. */
  readonly module: string
  /** Whether it is there only when `bench/node_modules` is, or nginx. */
  readonly optional?: boolean
  /** Whether it cannot tell sessions apart. */
  readonly single?: boolean
}

export const hasNginx = spawnSync('nginx', ['-v']).error === undefined

/** Upstreams, a generator, and the proxies that are measured in front of them. */
export async function openSite(run: Run, sessions: readonly string[], peers: readonly Peer[]) {
  const upstream = await run.fork<typeof upstreamAnswers>('upstream.js')
  const numbers = await upstream.ask('listen', sessions.length)
  const ports = Object.fromEntries(sessions.map((id, i) => [id, numbers[i] as number]))
  const generator: Generator = await run.fork('generator.js')
  const subjects: Subject[] = []
  for (const peer of peers) {
    if (peer.single && sessions.length > 1) continue
    if (peer.optional && !run.options.peers) continue
    if (peer.module === 'nginx' && !hasNginx) continue
    subjects.push(await openSubject(run, peer, { ports }))
  }
  const close = async () => {
    for (const child of [...subjects.map(({ child }) => child), generator, upstream]) await run.close(child)
  }
  return { generator, subjects, close }
}

async function openSubject(run: Run, { name, module }: Peer, site: Site): Promise<Subject> {
  const child = await run.fork<ProxyAnswers>(`subjects/${module}.js`)
  return { name, child, ...(await child.ask('open', site)) }
}

export function sessionIds(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `s${i}`)
}
