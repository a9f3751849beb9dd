import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { expect, onTestFinished, test, vi } from 'vitest'
import { endStrays } from '../../../src/runtime/process/strays.ts'

const directory = '/tmp/corral-strays/w/1'

/** A process with one variable in its environment. */
async function startWith(variable: string) {
  const [name = '', value] = variable.split('=')
  const child = spawn('sleep', ['1000'], { env: { PATH: process.env['PATH'], [name]: value }, stdio: 'ignore' })
  onTestFinished(() => void child.kill('SIGKILL'))
  await vi.waitUntil(() => readFileSync(`/proc/${child.pid}/environ`, 'utf8').includes(`${variable}\0`))
  return { child, exit: once(child, 'exit') }
}

test.runIf(process.platform === 'linux').each(['HOME', 'TMPDIR', 'DATA'])(
  'a process whose %s is in the directory of a worker is killed',
  async (name) => {
    const { exit } = await startWith(`${name}=${directory}/home`)
    expect(await endStrays(directory)).toEqual([])
    expect(await exit).toEqual([null, 'SIGKILL'])
  },
)

test.runIf(process.platform === 'linux').each([
  ['who looks at it', `PWD=${directory}/home`],
  ['who has looked at it', `OLDPWD=${directory}/home`],
  ['of another worker', `HOME=${directory}0/home`],
  ['that has the name in passing', `HOME=/mnt${directory}/home`],
])('one %s is left alone', async (_who, variable) => {
  const { child } = await startWith(variable)
  expect(await endStrays(directory)).toEqual([])
  expect([child.exitCode, child.signalCode]).toEqual([null, null])
})
