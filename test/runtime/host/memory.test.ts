import { totalmem } from 'node:os'
import { describe, expect, test } from 'vitest'
import { findCgroups } from '../../../src/runtime/host/cgroups.ts'
import { readMemory } from '../../../src/runtime/host/memory.ts'
import { makeRoot, meminfo, v1, v2 } from './_tree.ts'

const MIB = 1024 * 1024
const kib = (bytes: number) => bytes / 1024
const bytes = (mib: number) => String(mib * MIB)

async function memory(files: Readonly<Record<string, string>>) {
  const root = makeRoot({ 'proc/meminfo': meminfo(kib(1_000 * MIB), kib(600 * MIB)), ...files })
  return readMemory(root, await findCgroups(root))
}

describe('memory', () => {
  test('is that of the machine where no cgroup limits it: what is available is free', async () => {
    expect(await memory({})).toEqual({ used: 400 * MIB, total: 1_000 * MIB })
  })

  test('of a cgroup v2 is what is in use but for inactive files, of its limit', async () => {
    const service = 'sys/fs/cgroup/system.slice/corral.service'
    expect(
      await memory({
        ...v2,
        [`${service}/memory.max`]: bytes(100),
        [`${service}/memory.current`]: bytes(80),
        [`${service}/memory.stat`]: `anon 1\ninactive_file ${bytes(30)}\nactive_file 7`,
      }),
    ).toEqual({ used: 50 * MIB, total: 100 * MIB })
  })

  test('is that of the level whose limit is nearest', async () => {
    const slice = 'sys/fs/cgroup/system.slice'
    const files = {
      ...v2,
      [`${slice}/memory.max`]: bytes(200),
      [`${slice}/memory.current`]: bytes(180),
      [`${slice}/corral.service/memory.max`]: bytes(100),
      [`${slice}/corral.service/memory.current`]: bytes(50),
    }
    expect(await memory(files)).toEqual({ used: 180 * MIB, total: 200 * MIB })
    expect(await memory({ ...files, 'proc/meminfo': meminfo(kib(1_000 * MIB), kib(20 * MIB)) })).toEqual({
      used: 980 * MIB,
      total: 1_000 * MIB,
    })
  })

  test('is not limited by a cgroup that says max', async () => {
    const service = 'sys/fs/cgroup/system.slice/corral.service'
    const files = { ...v2, [`${service}/memory.max`]: 'max', [`${service}/memory.current`]: bytes(80) }
    expect(await memory(files)).toEqual({ used: 400 * MIB, total: 1_000 * MIB })
  })

  test('of a cgroup v1 is the same by other names', async () => {
    const job = 'sys/fs/cgroup/memory/jobs/one'
    expect(
      await memory({
        ...v1,
        [`${job}/memory.limit_in_bytes`]: bytes(100),
        [`${job}/memory.usage_in_bytes`]: bytes(80),
        [`${job}/memory.stat`]: `inactive_file ${bytes(1)}\ntotal_inactive_file ${bytes(20)}`,
        'sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712',
        'sys/fs/cgroup/memory/memory.usage_in_bytes': bytes(900),
      }),
    ).toEqual({ used: 60 * MIB, total: 100 * MIB })
  })

  test('of a container whose mount shows only its own cgroup is that one', async () => {
    expect(
      await memory({
        'proc/self/mountinfo': '35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory',
        'proc/self/cgroup': '4:memory:/docker/abc',
        'sys/fs/cgroup/memory/memory.limit_in_bytes': bytes(100),
        'sys/fs/cgroup/memory/memory.usage_in_bytes': bytes(90),
      }),
    ).toEqual({ used: 90 * MIB, total: 100 * MIB })
  })

  test('is what Node says where there is no /proc', async () => {
    const root = makeRoot({})
    const { used, total } = await readMemory(root, await findCgroups(root))
    expect(total).toBe(totalmem())
    expect(used).toBeGreaterThan(0)
    expect(used).toBeLessThanOrEqual(total)
  })
})
