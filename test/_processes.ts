import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, expect } from 'vitest'

const key = 'CORRAL_TEST_FILE'
const value = randomUUID()
const marker = `${key}=${value}`

/** Name of a worker script in `test/fixtures`; each says in its header what it does. */
export type Fixture =
  | 'echo-server'
  | 'slow-start'
  | 'never-ready'
  | 'exits-at-start'
  | 'exits-on-taken-port'
  | 'ignores-sigterm'
  | 'forks-children'
  | 'floods-stdout'
  | 'ten-megabyte-line'
  | 'freezes'
  | 'prints-ready'
  | 'writes-last-words'
  | 'names-sessions'
  | 'runs-commands'

/**
 * Options of `processWorker` that start a fixture on a TCP port, or with `socket` on a unix socket. Its environment
 * carries a mark by which {@link leavesNoProcess} finds it and everything it starts.
 */
export function fixture(name: Fixture, env: Record<string, string> = {}, address: 'port' | 'socket' = 'port') {
  return {
    command: process.execPath,
    args: [fixturePath(name), `{{${address}}}`],
    env: { ...env, WORKER_ID: '{{id}}', [key]: value },
  }
}

export function fixturePath(name: Fixture): string {
  return fileURLToPath(new URL(`./fixtures/${name}.mjs`, import.meta.url))
}

/** The mark, for processes that a test starts itself. */
export const fixtureMark: Readonly<Record<string, string>> = { [key]: value }

/**
 * Ids of the processes that the fixtures of this test file have, children and daemons included, zombies not. Always
 * empty where there is no /proc.
 */
export function fixtureProcesses(): number[] {
  if (process.platform !== 'linux') return []
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && read(`/proc/${name}/environ`).split('\0').includes(marker))
    .map(Number)
    .filter((pid) => pid !== process.pid)
}

/** Fails the test file when a process that a fixture started is alive at its end. Call it once, at the top. */
export function leavesNoProcess(): void {
  afterAll(() => {
    const left = fixtureProcesses()
    const described = left.map((pid) => `${pid}: ${read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ')}`)
    for (const pid of left) killQuietly(pid)
    expect(described).toEqual([])
  })
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // Gone in the meantime, or another user's.
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Gone in the meantime.
  }
}
