import { readFile } from 'node:fs/promises'
import { listProcesses, type ProcessEntry } from './_proc.ts'
import type { WorkerCgroup } from './cgroup/worker-cgroup.ts'

/** However many workers are measured, the process table is read no more often than this, in milliseconds. */
const TABLE_AGE = 1_000

let latest: { readonly at: number; readonly table: Promise<readonly ProcessEntry[]> } | undefined

/**
 * Bytes of memory that a worker takes with everything that it started: what its cgroup counts, without the part of the page
 * cache that is not in use, or where memory is not counted there, the sum of its processes. Linux only.
 *
 * @throws when none of its processes can be seen.
 */
export async function memoryInUse(leader: number, cgroup: WorkerCgroup | undefined): Promise<number> {
  const counted = await cgroup?.memory()
  if (counted !== undefined) return counted
  const pids = cgroup === undefined ? familyOf(leader, await processTable()) : await cgroup.members()
  const sizes = await Promise.all(pids.map(memoryOfProcess))
  const bytes = sizes.reduce((sum, size) => sum + size, 0)
  if (bytes === 0) throw new Error(`/proc tells nothing of process ${leader}`)
  return bytes
}

/** The processes of the leader's group, and all that descend from it, in whatever group. */
export function familyOf(leader: number, table: readonly ProcessEntry[]): number[] {
  const children = new Map<number, number[]>()
  for (const { pid, parent } of table) children.set(parent, [...(children.get(parent) ?? []), pid])
  const family = new Set(table.filter(({ pid, group }) => pid === leader || group === leader).map(({ pid }) => pid))
  // A Set visits what is added while it is walked.
  for (const pid of family) for (const child of children.get(pid) ?? []) family.add(child)
  return [...family]
}

/** A share of each page that it has in common with others, and what of it was swapped out. `0` when it is gone. */
async function memoryOfProcess(pid: number): Promise<number> {
  const shares = await read(`/proc/${pid}/smaps_rollup`)
  if (shares !== '') return kilobytes(shares, 'Pss') + kilobytes(shares, 'SwapPss')
  // Of other users' processes, and of old kernels, only the whole of each page can be read.
  const status = await read(`/proc/${pid}/status`)
  return kilobytes(status, 'VmRSS') + kilobytes(status, 'VmSwap')
}

function kilobytes(text: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0) * 1024
}

function processTable(): Promise<readonly ProcessEntry[]> {
  const now = performance.now()
  if (latest === undefined || now - latest.at > TABLE_AGE) latest = { at: now, table: listProcesses() }
  return latest.table
}

function read(path: string): Promise<string> {
  return readFile(path, 'latin1').catch(() => '')
}
