import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import type { ProcessWorkerOptions } from 'corral'
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
