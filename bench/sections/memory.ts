import type { Memory } from '../memory.ts'
import { residentMemory } from '../procfs.ts'
import { figure, table, target } from '../report.ts'
import type { Run } from '../run.ts'
import type { Section } from '../section.ts'
import type { answers } from '../subjects/pool.ts'
import { openSite, sessionIds, type Subject } from './_site.ts'
import { socketPeers } from './websocket.ts'

const KiB = 1024

export const memory: Section = {
  name: 'memory',
  note: 'KiB of the gateway for each idle session, its worker’s process excluded, and for each idle WebSocket. Heap: objects and buffers after garbage collection. Measured once.',
  async measure(run) {
    const session = await measureSessions(run)
    const sockets = await measureSockets(run)
    const [ours] = sockets.values()
    const rows = [
      ['idle session', session] as const,
      ...[...sockets].map(([name, taken]) => [`WebSocket: ${name}`, taken] as const),
    ]
    return {
      targets: [
        target('idle session', '≤ 10', session.heap / KiB, ' KiB'),
        target('idle WebSocket', '≤ 25', (ours?.heap ?? Number.NaN) / KiB, ' KiB'),
      ],
      text: table(
        ['', 'heap KiB', 'RSS KiB'],
        rows.map(([name, { heap, resident }]) => [name, figure(heap / KiB), figure(resident / KiB)]),
      ),
    }
  },
}

async function measureSessions(run: Run): Promise<Memory> {
  const child = await run.fork<typeof answers>('subjects/pool.js')
  const taken = await child.ask('idleSessions', run.options.quick ? 100 : 4_000)
  await run.close(child)
  return taken
}

async function measureSockets(run: Run): Promise<Map<string, Memory>> {
  const connections = run.options.quick ? 20 : 2_000
  const sessions = sessionIds(1)
  const { generator, subjects, close } = await openSite(run, sessions, socketPeers)
  const taken = new Map<string, Memory>()
  for (const subject of subjects) {
    const hold = (connections: number) =>
      generator.ask('hold', { port: subject.port, kind: 'echo', connections, sessions, seconds: 0 })
    // What is made once is not the connections'.
    await hold(20)
    await generator.ask('letGo')
    const before = await memoryOf(subject)
    await hold(connections)
    const after = await memoryOf(subject)
    await generator.ask('letGo')
    taken.set(subject.name, {
      heap: (after.heap - before.heap) / connections,
      resident: (after.resident - before.resident) / connections,
    })
  }
  await close()
  return taken
}

async function memoryOf({ child, pid }: Subject): Promise<Memory> {
  const own = await child.ask('memory')
  return pid === child.pid ? own : { heap: Number.NaN, resident: residentMemory(pid) }
}
