import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readlinkSync, realpathSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Lease, ProcessWorkerOptions, ResourceLimits } from 'corral'
import { end, isolated, openPool, send, sh, stateDirectory, usesIsolation } from './_isolated.ts'

usesIsolation()

/** A service of the machine, such as that of a container engine, which no worker may reach. */
async function openService() {
  const directory = mkdtempSync(join(tmpdir(), 'service-'))
  const path = join(directory, 'socket')
  let connections = 0
  const server = createServer((_, response) => response.end('of the machine'))
  server.on('connection', () => connections++)
  server.listen(path)
  await once(server, 'listening')
  onTestFinished(() => {
    server.close()
    rmSync(directory, { recursive: true })
  })
  return { path, connections: () => connections }
}

const pathOf = ({ worker: { address } }: Lease) => ('socketPath' in address ? address.socketPath : '')

/** Where the worker itself has its socket. */
const ownSocket = 'S="$SOCKET"'

/** Descriptors of this process that are sockets of workers. */
const held = () => readdirSync('/proc/self/fd').filter((fd) => targetOf(fd).endsWith('/s'))

function targetOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return '' // That of the listing itself.
  }
}

/** A worker of few words: the script, which gets the path of the socket as $1. */
const scripted = (script: string, limits: ResourceLimits) => ({
  ...isolated('full', { limits, health: { startTimeout: 1_500, startAttempts: 1 } }),
  command: '/bin/sh',
  args: ['-c', script, 'sh', '{{socket}}'],
})

/** Serves on the socket at $1, and answers every request with "of the worker". */
const server = `/usr/bin/python3 -c '
import os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
while True:
    client = server.accept()[0]
    if client.recv(65536): client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 13\\r\\nConnection: close\\r\\n\\r\\nof the worker")
    client.close()
' "$1"`

describe.runIf(process.platform === 'linux').each([
  ['', {}],
  [', its directory limited,', { disk: 4 * 1024 ** 2 }],
])('at level full%s the gateway', (_, limits) => {
  const options = (rest: Partial<ProcessWorkerOptions> = {}) =>
    isolated('full', { limits, env: { SOCKET: '{{socket}}' }, ...rest })

  test.each([
    ['a link', (service: string) => `rm "$S" && ln -s ${service} "$S"`],
    ['a link to a link', (service: string) => `ln -s ${service} "$S.1"; mv "$S" "$S.0"; ln -s s.1 "$S"`],
    ['a directory', () => 'rm "$S" && mkdir "$S"'],
    ['a FIFO', () => 'rm "$S" && mkfifo "$S"'],
  ])('talks to its worker when that has put %s in the place of its socket', async (__, replace) => {
    const service = await openService()
    const { pool } = await openPool(options({ health: { path: '/', interval: 20, timeout: 5_000 } }))
    using lease = await pool.acquire('red')
    expect(await sh(lease, `${ownSocket}; ${replace(service.path)}; echo done`)).toMatchObject({ output: 'done\n' })
    for (let i = 0; i < 5; i++) expect(await sh(lease, 'echo well')).toMatchObject({ output: 'well\n' })
    expect(service.connections()).toBe(0)
    expect(pool.stats().totals.sessionsLost).toBe(0)
  })

  test('reaches neither the machine nor another session when its worker listens no more', async () => {
    const service = await openService()
    const { pool } = await openPool(options())
    const victim = await pool.acquire('blue')
    for (const [index, target] of [
      service.path,
      realpathSync(dirname(pathOf(victim))) + '/run/s',
      pathOf(victim),
    ].entries()) {
      const lease = await pool.acquire(`red-${index}`)
      const address = lease.worker.address
      // What listens is this script's parent: it goes, and leaves the link.
      await sh(lease, `${ownSocket}; rm "$S"; ln -s ${target} "$S"; kill -9 $PPID`).catch(() => {})
      await expect(send(address, 'POST', '/', 'echo well')).rejects.toThrow(/ECONNREFUSED|ENOENT|ECONNRESET|hang up/)
    }
    expect(service.connections()).toBe(0)
    expect(await sh(victim, 'echo well')).toMatchObject({ output: 'well\n' })
  })

  test('does not take a worker for ready that has a link and no socket', async () => {
    const service = await openService()
    await expect(
      openPool(scripted(`ln -s ${service.path} "$1"; exec sleep 1000`, limits), { size: { min: 1, max: 1 } }),
    ).rejects.toMatchObject({
      code: 'WORKER_START_TIMEOUT',
      message: expect.stringContaining('is not a unix socket, and is not followed') as string,
    })
    expect(service.connections()).toBe(0)
  })

  test.each(['line', 'check', 'path'] as const)(
    'waits for the socket of a worker that is asked by its %s',
    async (how) => {
      const service = await openService()
      const script = `ln -s ${service.path} "$1"; echo up; sleep 0.3; rm "$1"; ${server}`
      const health = { line: { line: 'up' }, check: { check: async () => {} }, path: { path: '/' } }[how]
      const { pool } = await openPool({ ...scripted(script, limits), health })
      using lease = await pool.acquire('red')
      expect(await send(lease.worker.address, 'GET', '/')).toBe('of the worker')
      expect(service.connections()).toBe(0)
    },
  )

  test('holds nothing of a worker that is gone', async () => {
    const directory = stateDirectory()
    const { pool } = await openPool(options({ stateDirectory: directory }))
    const before = held()
    const lease = await pool.acquire('red')
    expect(held()).toHaveLength(before.length + 1)
    const path = pathOf(lease)
    await end(lease, 'code=0')
    await pool.close()
    expect(existsSync(path)).toBe(false)
    expect(held()).toEqual(before)
  })
})
