import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { onTestFinished } from 'vitest'

/** A root directory with these files. It is gone at the end of the test. */
export function makeRoot(files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), 'corral-host-'))
  onTestFinished(() => rmSync(root, { recursive: true }))
  write(root, files)
  return root
}

export function write(root: string, files: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), `${text}\n`)
  }
}

export const meminfo = (total: number, available: number) =>
  `MemTotal:       ${total} kB\nMemFree:        1 kB\nMemAvailable:   ${available} kB`

/** Rows of /proc/stat: user and idle ticks of each CPU. */
export const stat = (...cpus: [user: number, idle: number][]) =>
  ['cpu  9 9 9 9 9 9 9 9 9 9', ...cpus.map(([user, idle], i) => `cpu${i} ${user} 0 0 ${idle} 0 0 0 0 0 0`)].join('\n')

export const v2 = {
  'proc/self/mountinfo': '30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate',
  'proc/self/cgroup': '0::/system.slice/corral.service',
}

export const v1 = {
  'proc/self/mountinfo': [
    '31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755',
    '32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct',
    '35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory',
    '41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
  ].join('\n'),
  'proc/self/cgroup': ['4:memory:/jobs/one', '3:cpu,cpuacct:/jobs/one', '0::/'].join('\n'),
}
