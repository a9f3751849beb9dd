import { ownHierarchies, probeCgroup } from './cgroup-probe.ts'
import { probeDisk, probeFiles, probeLevel, probeParentDeathSignal, probeProcessList } from './probes.ts'
import type { ProbeResult } from './trial.ts'

/** One thing that isolation or limits need, tried out on this machine as this user. */
export type Diagnosis = ProbeResult

const MIB = 1024 ** 2

/** Tries out every level of isolation and every limit, one after the other, and cleans up. Takes part of a second. */
export async function diagnose(): Promise<readonly Diagnosis[]> {
  const hierarchies = await ownHierarchies()
  const probes = [
    () => probeLevel({}, 'none'),
    () => probeLevel({}, 'group'),
    () => probeParentDeathSignal(),
    () => probeProcessList(),
    () => probeCgroup({}, hierarchies, {}),
    () => probeLevel({}, 'namespaces'),
    () => probeLevel({}, 'full'),
    () => probeLevel({}, 'full', { network: 'none' }),
    () => probeCgroup({}, hierarchies, { memory: 64 * MIB }),
    () => probeCgroup({}, hierarchies, { cpu: 1 }),
    () => probeCgroup({}, hierarchies, { pids: 16 }),
    () => probeFiles(256),
    () => probeDisk({}, 'full', MIB, 'memory'),
  ]
  const results: Diagnosis[] = []
  // One at a time: what one leaves for a moment is not to be in the way of the next.
  for (const probe of probes) results.push(await probe())
  return results
}
