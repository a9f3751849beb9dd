import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { isolationLevels, type IsolationLevel } from '../../../src/runtime/process/isolation/options.ts'
import { usesBuild } from '../../_build.ts'
import { fixtureMark, leavesNoProcess } from '../../_processes.ts'

usesBuild()
leavesNoProcess()

const supervisor = fileURLToPath(new URL('../../fixtures/supervisor.mjs', import.meta.url))
/** Far above what Node itself looks at when it starts. */
const INHERITED = { 20: '/etc', 200: '/etc/passwd' }

/** What a worker has open whose supervisor was started with a directory and a file open that it knows nothing of. */
async function descriptorsOf(level: IsolationLevel): Promise<Record<string, string>> {
  const options = {
    command: '/bin/sh',
    args: ['-c', 'ls -l /proc/$$/fd; exit 1', '{{socket}}'],
    isolation: level,
    env: fixtureMark,
  }
  const stdio: (number | 'pipe' | 'ignore')[] = Array.from({ length: 201 }, (_, fd) => (fd === 2 ? 'pipe' : 'ignore'))
  for (const [fd, path] of Object.entries(INHERITED)) stdio[Number(fd)] = openSync(path, 'r')
  const child = spawn(process.execPath, [supervisor, JSON.stringify(options)], { stdio })
  for (const fd of stdio) if (typeof fd === 'number') closeSync(fd)
  onTestFinished(() => void child.kill('SIGKILL'))
  // It ends of a worker that does not start, and says what that has written.
  const [output] = await Promise.all([text(child.stderr!), once(child, 'exit')])
  return Object.fromEntries([...output.matchAll(/^ {2}\S.* (\d+) -> (.+)$/gm)].map(([, fd, target]) => [fd, target]))
}

test.runIf(process.platform === 'linux').each(isolationLevels)(
  'at level %s a worker gets no descriptor that the gateway was started with',
  async (level) => {
    const { 0: stdin, 1: stdout, 2: stderr, ...others } = await descriptorsOf(level)
    expect(stdin).toBe('/dev/null')
    expect([stdout, stderr]).toEqual([expect.stringMatching(/^socket:/), expect.stringMatching(/^socket:/)])
    if (level !== 'none') return expect(others).toEqual({})
    // Not started by the helper. The tests may have been started with some more.
    expect(Object.keys(others)).toEqual(expect.arrayContaining(Object.keys(INHERITED)))
    expect(new Set(Object.values(others))).toEqual(new Set(['/dev/null']))
  },
)

test.runIf(process.platform === 'linux')('one beyond the limit on open files is named', () => {
  const options = { command: 'true', args: ['{{socket}}'], isolation: 'none', env: fixtureMark }
  const command = 'exec 200>/dev/null; ulimit -n 150; exec "$@"'
  const args = ['-c', command, 'bash', process.execPath, supervisor, JSON.stringify(options)]
  const { stderr } = spawnSync('bash', args, { encoding: 'utf8' })
  // The tests may have been started with a higher one.
  expect(stderr).toMatch(/started with descriptor (\d+), beyond its limit on open files; close it \(\1>&-\)/)
})
