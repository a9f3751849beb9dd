import { readFile } from 'node:fs/promises'
import { listProcesses, readProcess, socketInodes } from './_proc.ts'
import type { ProcessEntry } from './_proc.ts'
import type { WorkerCgroup } from './cgroup/worker-cgroup.ts'

/**
 * Who listens on a port: the worker or what it has started (`own`), a stranger (`foreign`), nobody (`nobody`), or
 * somebody that we may not look at (`unknown`).
 */
export type ListenerOwner = 'own' | 'foreign' | 'nobody' | 'unknown'

const LISTEN = '0A'
/** 127.0.0.1 and its IPv6 form, as /proc/net prints them on machines of either byte order. */
const LOOPBACK = new Set([
  '0100007F',
  '7F000001',
  '0000000000000000FFFF00000100007F',
  '00000000000000000000FFFF7F000001',
])
const ANY_IPV4 = '00000000'
const ANY_IPV6 = '0'.repeat(32)

/**
 * Tells whose socket answers on 127.0.0.1:`port`. A port that was free when it was picked may have been taken before the
 * worker came to listen, and a session must never reach a stranger's process.
 *
 * @param cgroup of the worker: by which a daemon is known, whose ancestors are gone.
 */
export async function findListenerOwner(
  port: number,
  leader: number,
  cgroup?: Pick<WorkerCgroup, 'members'>,
): Promise<ListenerOwner> {
  if (process.platform !== 'linux') return 'unknown'
  const inodes = await listeningInodes(port)
  if (inodes === undefined) return 'unknown'
  if (inodes.length === 0) return 'nobody'
  const owns = async (pid: number) => {
    const open = await socketInodes(pid)
    return open === undefined ? undefined : inodes.some((inode) => open.has(inode))
  }
  // Nearly always it is the leader itself; the whole process table is only read when it is not.
  const answers = [await owns(leader)]
  if (answers[0] === true) return 'own'
  const processes = await listProcesses()
  const family = descendants(processes, leader)
  for (const pid of new Set([...family, ...((await cgroup?.members()) ?? [])])) answers.push(await owns(pid))
  if (answers.includes(true)) return 'own'
  const entry = await readProcess(leader)
  if (entry === undefined) return 'unknown' // Hidden from us (hidepid), as may be its descendants.
  if (entry.isZombie) return 'foreign' // It shows no descriptors any more, and has none.
  // Not to be listed: its descendants may be any.
  return answers.includes(undefined) || processes.length === 0 ? 'unknown' : 'foreign'
}

/** Inodes of the sockets that a connection to 127.0.0.1:`port` may reach: the most specific address wins. */
async function listeningInodes(port: number): Promise<string[] | undefined> {
  const tables = await Promise.all([readTable('tcp'), readTable('tcp6')])
  if (tables[0] === undefined) return undefined
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const listening = tables
    .flatMap((table) => table ?? [])
    .filter(({ state, local }) => state === LISTEN && local.endsWith(suffix))
    .map(({ local, inode }) => ({ host: local.slice(0, -suffix.length), inode }))
  const groups = [(host: string) => LOOPBACK.has(host), (host: string) => host === ANY_IPV4 || host === ANY_IPV6]
  const matches = groups.map((matches) => listening.filter(({ host }) => matches(host)))
  return (matches.find((group) => group.length > 0) ?? []).map(({ inode }) => inode)
}

async function readTable(name: string) {
  const text = await readFile(`/proc/net/${name}`, 'latin1').catch(() => undefined)
  return text
    ?.split('\n')
    .slice(1)
    .map((row) => row.trim().split(/\s+/))
    .map(([, local = '', , state = '', , , , , , inode = '']) => ({ local, state, inode }))
}

/** The rest of the leader's group and session, and all that these have started. */
function descendants(processes: readonly ProcessEntry[], leader: number): ReadonlySet<number> {
  const found = new Set<number>()
  const isRelated = ({ group, session, parent }: ProcessEntry) =>
    group === leader || session === leader || parent === leader || found.has(parent)
  for (let before = -1; before < found.size;) {
    before = found.size
    for (const entry of processes) if (entry.pid !== leader && isRelated(entry)) found.add(entry.pid)
  }
  return found
}
