import { describe, expect, test } from 'vitest'
import { parseHierarchies } from '../../../../src/runtime/process/cgroup/hierarchies.ts'
import { planDirectories } from '../../../../src/runtime/process/cgroup/limits.ts'

describe('the plan of a cgroup', () => {
  const v2 = {
    unified: '/cg/unified',
    unifiedControllers: new Set(['memory', 'cpu', 'pids']),
    v1: new Map<string, string>(),
  }

  test('is one directory where everything is unified', () => {
    expect(planDirectories(v2, { memory: 1024, cpu: 1.5, pids: 10 })).toEqual([
      {
        parent: '/cg/unified',
        kind: 'unified',
        settings: [
          { file: 'memory.max', value: '1024' },
          { file: 'memory.swap.max', value: '0', may: 'absent' },
          { file: 'memory.oom.group', value: '1', may: 'absent' },
          { file: 'cpu.max', value: '150000 100000' },
          { file: 'pids.max', value: '13' },
        ],
      },
    ])
  })

  test('takes from v1 what the unified hierarchy lacks, and freezes where that cannot kill', () => {
    const v1 = new Map([
      ['memory', '/cg/memory'],
      ['freezer', '/cg/freezer'],
    ])
    const hybrid = { unified: '/cg/unified', unifiedControllers: new Set(['hugetlb']), v1 }
    expect(planDirectories(hybrid, { memory: 1024 }).map(({ kind, parent }) => [kind, parent])).toEqual([
      ['memory', '/cg/memory'],
      ['unified', '/cg/unified'],
    ])
    const old = { unified: undefined, unifiedControllers: new Set<string>(), v1 }
    expect(planDirectories(old, {}).map(({ kind }) => kind)).toEqual(['freezer'])
  })
})

describe('the hierarchies of a process', () => {
  const mount = (root: string, point: string, type: string, options: string) =>
    `30 20 0:26 ${root} ${point} rw,nosuid shared:9 - ${type} ${type} ${options}`

  test('are told by the type of the mount, and not by the path', () => {
    const plain = mount('/', '/sys/fs/cgroup', 'tmpfs', 'rw')
    expect(parseHierarchies(plain, '0::/\n')).toEqual({ unified: undefined, v1: new Map() })
  })

  test('are those of a hybrid host', () => {
    const mounts = [
      mount('/', '/sys/fs/cgroup/cpu,cpuacct', 'cgroup', 'rw,cpu,cpuacct'),
      mount('/', '/sys/fs/cgroup/my\\040unified', 'cgroup2', 'rw'),
    ].join('\n')
    const { unified, v1 } = parseHierarchies(mounts, '4:cpu,cpuacct:/a/b\n0::/c\n')
    expect(unified).toBe('/sys/fs/cgroup/my unified/c')
    expect(v1.get('cpu')).toBe('/sys/fs/cgroup/cpu,cpuacct/a/b')
  })

  test('are none where a container does not show its own', () => {
    const mounts = mount('/docker/other', '/sys/fs/cgroup', 'cgroup2', 'rw')
    expect(parseHierarchies(mounts, '0::/docker/mine\n').unified).toBeUndefined()
    expect(parseHierarchies(mounts, '0::/docker/other/x\n').unified).toBe('/sys/fs/cgroup/x')
  })
})
