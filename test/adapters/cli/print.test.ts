import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { root, usesBuild } from '../../_build.ts'

usesBuild()

/** Runs `corral` with its output going where the descriptor does, or to a pipe. */
async function corral(args: readonly string[], output: number | 'pipe') {
  const child = spawn(process.execPath, [`${root}dist/adapters/cli/main.js`, ...args], {
    stdio: ['ignore', output, 'pipe'],
  })
  child.stdout?.destroy()
  let stderr = ''
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk))
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, stderr }
}

describe('output that cannot be written ends with status 1 and one message:', () => {
  const commands = [[['doctor']], [['run', '--help']], [['--version']]] as const

  test.runIf(process.platform === 'linux').each(commands)('%j on a full disk', async (args) => {
    const full = openSync('/dev/full', 'w')
    const { code, stderr } = await corral(args, full).finally(() => closeSync(full))
    expect(code).toBe(1)
    expect(stderr).toMatch(/^corral: Cannot write the output: ENOSPC[^\n]*\n$/)
  })

  test.each(commands)('%j when nobody reads it', async (args) => {
    const { code, stderr } = await corral(args, 'pipe')
    expect(code).toBe(1)
    expect(stderr).toMatch(/^corral: Cannot write the output: [^\n]*EPIPE\n$/)
  })
})
