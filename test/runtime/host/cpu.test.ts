import { describe, expect, test } from 'vitest'
import { findCgroups } from '../../../src/runtime/host/cgroups.ts'
import { cpusOf, readCpu, shareBetween } from '../../../src/runtime/host/cpu.ts'
import { makeRoot, stat, v1, v2, write } from './_tree.ts'

type Files = Readonly<Record<string, string>>

/** The share that is in use between two states of the files, a second apart. */
async function share(before: Files, after: Files) {
  const root = makeRoot(before)
  const first = await readCpu(root, await findCgroups(root), 5_000)
  write(root, after)
  const second = await readCpu(root, await findCgroups(root), 6_000)
  return { share: shareBetween(first, second), cpus: cpusOf(second) }
}

const four = (user: number, idle: number): Files => ({
  'proc/stat': stat([user, idle], [0, idle], [0, idle], [0, idle]),
})

describe('the CPU', () => {
  test('is busy by the ticks of the machine where no cgroup limits it', async () => {
    const before = { 'proc/stat': stat([100, 100], [100, 100]) }
    expect(await share(before, { 'proc/stat': stat([190, 110], [110, 190]) })).toEqual({ share: 0.5, cpus: 2 })
  })

  test('counts only the CPUs that the process may run on', async () => {
    const status = { 'proc/self/status': 'Name:\tnode\nCpus_allowed_list:\t0,2-3\nThreads:\t1' }
    const before = { ...status, 'proc/stat': stat([0, 0], [0, 0], [0, 0], [0, 0]) }
    const after = { 'proc/stat': stat([100, 0], [0, 100], [50, 50], [0, 100]) }
    expect(await share(before, after)).toEqual({ share: 0.5, cpus: 3 })
  })

  test('counts waiting for a disk as idle, and time that the hypervisor took as busy', async () => {
    const before = { 'proc/stat': 'cpu0 0 0 0 0 0 0 0 0 0 0' }
    expect(await share(before, { 'proc/stat': 'cpu0 0 0 10 20 40 0 0 30 0 0' })).toMatchObject({ share: 0.4 })
  })

  test('of a cgroup v2 with a quota is busy by that', async () => {
    const service = 'sys/fs/cgroup/system.slice/corral.service'
    const before = {
      ...v2,
      ...four(0, 0),
      [`${service}/cpu.max`]: '50000 100000',
      [`${service}/cpu.stat`]: 'usage_usec 1000000\nuser_usec 1',
    }
    const after = { ...four(40, 60), [`${service}/cpu.stat`]: 'usage_usec 1400000\nuser_usec 1' }
    expect(await share(before, after)).toEqual({ share: 0.8, cpus: 0.5 })
  })

  test('is that of whatever is busiest, and never more than all', async () => {
    const slice = 'sys/fs/cgroup/system.slice'
    const quotas = { [`${slice}/cpu.max`]: '100000 100000', [`${slice}/corral.service/cpu.max`]: '200000 100000' }
    const used = (outer: number, inner: number) => ({
      [`${slice}/cpu.stat`]: `usage_usec ${outer}`,
      [`${slice}/corral.service/cpu.stat`]: `usage_usec ${inner}`,
    })
    const before = { ...v2, ...four(0, 0), ...quotas, ...used(0, 0) }
    expect(await share(before, { ...four(10, 90), ...used(900_000, 500_000) })).toEqual({ share: 0.9, cpus: 1 })
    expect(await share(before, { ...four(10, 90), ...used(3_000_000, 0) })).toEqual({ share: 1, cpus: 1 })
  })

  test('has no quota where cpu.max says max', async () => {
    const service = 'sys/fs/cgroup/system.slice/corral.service'
    const before = {
      ...v2,
      ...four(0, 0),
      [`${service}/cpu.max`]: 'max 100000',
      [`${service}/cpu.stat`]: 'usage_usec 0',
    }
    const after = { ...four(100, 0), [`${service}/cpu.stat`]: 'usage_usec 900000' }
    expect(await share(before, { ...after, 'proc/stat': stat([100, 0], [0, 100], [0, 100], [0, 100]) })).toEqual({
      share: 0.25,
      cpus: 4,
    })
  })

  test('of a cgroup v1 with a quota is busy by that', async () => {
    const job = 'sys/fs/cgroup/cpu,cpuacct/jobs/one'
    const before = {
      ...v1,
      ...four(0, 0),
      [`${job}/cpu.cfs_quota_us`]: '200000',
      [`${job}/cpu.cfs_period_us`]: '100000',
      [`${job}/cpuacct.usage`]: '1000000000',
      'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us': '-1',
      'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us': '100000',
      'sys/fs/cgroup/cpu,cpuacct/cpuacct.usage': '0',
    }
    const after = {
      ...four(10, 90),
      [`${job}/cpuacct.usage`]: '2500000000',
      'sys/fs/cgroup/cpu,cpuacct/cpuacct.usage': '9000000000',
    }
    expect(await share(before, after)).toEqual({ share: 0.75, cpus: 2 })
  })

  test('is what Node says where there is no /proc', async () => {
    const root = makeRoot({})
    const [reading] = await readCpu(root, await findCgroups(root), 0)
    expect(reading?.cpus).toBeGreaterThanOrEqual(1)
    expect(reading?.busy).toBeLessThanOrEqual((reading?.time ?? 0) * (reading?.cpus ?? 0))
  })

  test('has no share before there are two readings', () => {
    const reading = { of: 'host', busy: 1, time: 1, cpus: 1 }
    expect(shareBetween([], [reading])).toBeUndefined()
    expect(shareBetween([reading], [reading])).toBeUndefined()
  })
})
