import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { ProcessWorkerOptions } from 'corral'
import { root } from '../../../_build.ts'
import { isolated, levels, openPool, send, sh, usesIsolation } from './_isolated.ts'

usesIsolation()

/** With CI set, a missing program is a failure. */
const isThere = (program: string) => Boolean(process.env['CI']) || spawnSync(program, ['--version']).status === 0

const pythonServer = `
import http.server, os, socket, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(os.getcwd().encode())
    def address_string(self): return 'unix'
    def log_message(self, *args): pass
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer): pass
Server(sys.argv[1], Handler).serve_forever()
`

const nodeServer = `require('http').createServer((q, s) => s.end(process.version)).listen(process.argv[1])`

describe.runIf(process.platform === 'linux').each(levels)('at level %s', (level) => {
  const withCommand = (command: string, args: string[], rest: Partial<ProcessWorkerOptions> = {}) => ({
    ...isolated(level, rest),
    command,
    args,
  })

  test('python3 serves', async () => {
    const { pool } = await openPool({
      ...withCommand('/usr/bin/python3', ['-c', pythonServer, '{{socket}}']),
      health: { path: '/' },
    })
    using lease = await pool.acquire('red')
    expect(await send(lease.worker.address, 'GET', '/')).toMatch(/^\//)
  })

  test('node serves', async () => {
    const { pool } = await openPool(withCommand('node', ['-e', nodeServer, '{{socket}}']))
    using lease = await pool.acquire('red')
    expect(await send(lease.worker.address, 'GET', '/')).toBe(process.version)
  })

  test.runIf(isThere('chromium'))(
    'chromium opens a page',
    async () => {
      const flags = '--headless --no-sandbox --disable-gpu --user-data-dir="$HOME/profile" --dump-dom'
      const { pool } = await openPool(isolated(level))
      using lease = await pool.acquire('red')
      const { output } = await sh(lease, `chromium ${flags} 'data:text/html,<p id=x>' 2>/dev/null`)
      expect(output).toContain('<p id="x"></p>')
    },
    60_000,
  )
})

const USER = '64321'

/** The built package where a user can go to whom the repository may be closed. */
function installForUser(): string {
  const directory = mkdtempSync(join(tmpdir(), 'user-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { dependencies: object }
  const packages = Object.keys(dependencies).map((name) => join('node_modules', name))
  for (const path of ['dist', 'package.json', 'test/fixtures', ...packages]) {
    cpSync(join(root, path), join(directory, path), { recursive: true })
  }
  execFileSync('chown', ['-R', `${USER}:${USER}`, directory])
  return directory
}

function runAsUser(directory: string, script: string): unknown {
  const command = [
    '--reuid',
    USER,
    '--regid',
    USER,
    '--clear-groups',
    '--',
    'node',
    '--input-type=module',
    '-e',
    script,
  ]
  const env = { PATH: process.env['PATH'], HOME: directory, TMPDIR: directory }
  return JSON.parse(execFileSync('setpriv', command, { cwd: directory, env, encoding: 'utf8' }))
}

/** Runs as somebody who is nobody on this machine: with an id that no account has. */
describe.runIf(process.platform === 'linux' && process.geteuid?.() === 0)('for an ordinary user', () => {
  test.each(levels)(
    'level %s starts, isolates and stops a worker',
    (level) => {
      const directory = installForUser()
      const fixtures = join(directory, 'test/fixtures')
      const isolation = level === 'full' ? { level, network: 'none', binds: [fixtures] } : level
      const options = { command: 'node', args: [join(fixtures, 'echo-server.mjs'), '{{socket}}'], isolation }
      const script = `
        import { createPool, processWorker } from '${directory}/dist/index.js'
        const pool = await createPool({ worker: processWorker(${JSON.stringify(options)}) })
        const dead = new Promise((resolve) => pool.on('worker.dead', resolve))
        const lease = await pool.acquire('red')
        lease.release()
        const { isolation } = pool.stats()
        await pool.close()
        console.log(JSON.stringify({ isolation, dead: await dead }))`
      expect(runAsUser(directory, script)).toMatchObject({
        isolation: { level, missing: [] },
        dead: { reason: 'stopped', exitCode: 0, signal: null },
      })
    },
    60_000,
  )

  test('limits without a cgroup to set them in are refused, with the probe that failed', () => {
    const directory = installForUser()
    const script = `
      import { createPool, processWorker } from '${directory}/dist/index.js'
      await createPool({ worker: processWorker({ command: 'node', limits: { memory: 1 << 28 } }) }).catch((error) =>
        console.log(JSON.stringify({ ...error, message: error.message })))`
    expect(runAsUser(directory, script)).toMatchObject({
      code: 'SANDBOX_UNAVAILABLE',
      wanted: 'limits.memory',
      probe: 'limit memory',
      message: expect.stringContaining('Delegate=yes') as string,
    })
  })

  test('and may go on without them, which is told', () => {
    const directory = installForUser()
    const options = { command: 'node', limits: { memory: 1 << 28 }, onUnavailable: 'degrade' }
    const script = `
      import { createPool, processWorker } from '${directory}/dist/index.js'
      const warned = new Promise((resolve) => process.once('warning', resolve))
      const pool = await createPool({ worker: processWorker(${JSON.stringify(options)}), size: { min: 0 } })
      const { isolation } = pool.stats()
      await pool.close()
      console.log(JSON.stringify({ isolation, warning: (await warned).message }))`
    expect(runAsUser(directory, script)).toMatchObject({
      isolation: { level: 'group', missing: ['limits.memory'] },
      warning: expect.stringContaining('limits.memory is not to be had') as string,
    })
  })
})
