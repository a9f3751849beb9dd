import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { fixtureMark, leavesNoProcess } from '../../../_processes.ts'
import { FakePool } from '../_pool.ts'
import { openGateway } from '../_scene.ts'

leavesNoProcess()

/** Debian's, for which `python3-tornado` is installed. */
const python = '/usr/bin/python3'
const script = fileURLToPath(new URL('../../../fixtures/tornado-websockets.py', import.meta.url))
const isHere = existsSync('/usr/lib/python3/dist-packages/tornado/test/websocket_test.py')

/** What became of each test of the suite, which asks `through` for the port to connect to in place of a server's own. */
async function run(through?: (port: number) => Promise<number>): Promise<Record<string, string>> {
  const child = spawn(python, [script, through === undefined ? 'direct' : 'through'], {
    env: { ...process.env, ...fixtureMark },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let log = ''
  child.stderr.on('data', (chunk: Buffer) => {
    log += chunk.toString()
  })
  let outcomes: Record<string, string> | undefined
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.startsWith('{')) outcomes = JSON.parse(line) as Record<string, string>
    else child.stdin.write(`${await through?.(Number(line))}\n`)
  }
  if (outcomes === undefined) throw new Error(`The suite did not run: ${log}`)
  return outcomes
}

test.skipIf(!isHere && process.env.CI === undefined)(
  'Tornado’s own WebSocket tests end through the gateway as they do without it, case by case',
  { timeout: 120_000 },
  async () => {
    const direct = await run()
    const pools: FakePool[] = []
    const through = await run(async (port) => {
      const pool = new FakePool({ host: '127.0.0.1', port })
      pools.push(pool)
      // One of the tests compares `Origin` with `Host`.
      return (await openGateway(pool, { host: 'keep', sessionId: () => 'suite' })).port
    })
    expect(through).toEqual(direct)
    const passed = Object.values(direct).filter((outcome) => outcome === 'passed')
    expect(passed.length).toBeGreaterThan(40)
    expect(pools.filter(({ granted }) => granted > 0).length).toBeGreaterThan(30)
    for (const pool of pools) await pool.until(() => pool.open === 0)
  },
)
