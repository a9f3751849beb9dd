import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach } from 'vitest'
import { createPool, processWorker } from 'corral'
import type { IsolationLevel, Lease, Pool, PoolEvent, PoolOptions, ProcessWorkerOptions, WorkerAddress } from 'corral'
import { usesBuild } from '../../../_build.ts'
import { fixture, fixturePath, leavesNoProcess, type Fixture } from '../../../_processes.ts'

export const levels = ['none', 'group', 'namespaces', 'full'] as const satisfies readonly IsolationLevel[]

const pools = new Set<Pool>()
const directories = new Set<string>()

/** Closes every pool after each test, and fails the file when a process is left. Call it once, at the top. */
export function usesIsolation(): void {
  usesBuild()
  leavesNoProcess()
  afterEach(async () => {
    await Promise.all([...pools].map((pool) => pool.close()))
    pools.clear()
    for (const directory of directories) rmSync(directory, { recursive: true, force: true })
    directories.clear()
  })
}

/** Options that start a fixture at a level. The sources of the fixtures may be where `full` hides things. */
export function isolated(
  level: IsolationLevel,
  { name = 'runs-commands', env, ...options }: Partial<ProcessWorkerOptions> & { name?: Fixture } = {},
): ProcessWorkerOptions {
  const base = fixture(name, {}, 'socket')
  const binds = [dirname(fixturePath(name))]
  const isolation = level === 'full' ? ({ level, network: 'none', binds } as const) : level
  return { ...base, isolation, ...options, env: { ...base.env, ...env } }
}

/** A worker on a unix socket that takes memory without end, itself, when it is asked for anything but a connection. */
export const hungryWorker = {
  command: '/usr/bin/python3',
  args: [
    '-c',
    `
import sys, socket
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
while True:
    client = server.accept()[0]
    if client.recv(100):
        taken = bytearray(64 << 20)
        for i in range(64): taken += bytes(16 << 20)
`,
    '{{socket}}',
  ],
}

/** A pool that is closed after the test. */
export async function openPool(options: ProcessWorkerOptions, rest: Omit<PoolOptions, 'worker'> = {}) {
  const events: PoolEvent[] = []
  const pool = await createPool({
    worker: processWorker(options),
    size: { min: 0, max: 3 },
    ...rest,
    onEvent: (event) => events.push(event),
  })
  pools.add(pool)
  return { pool, events }
}

/** A state directory that is removed after the test. */
export function stateDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'state-'))
  directories.add(directory)
  return directory
}

export interface Outcome {
  readonly code: number | null
  readonly output: string
}

/** Has the worker of a lease run a shell script. */
export async function sh({ worker }: Pick<Lease, 'worker'>, script: string): Promise<Outcome> {
  return JSON.parse(await send(worker.address, 'POST', '/', script)) as Outcome
}

/** Ends the worker of a lease from within, so that no answer comes. */
export async function end({ worker }: Pick<Lease, 'worker'>, query: string): Promise<void> {
  await send(worker.address, 'DELETE', `/?${query}`).catch(() => {})
}

export function send(address: WorkerAddress, method: string, path: string, body = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ ...address, method, path }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk
      })
      response.on('end', () => resolve(text))
      response.on('error', reject)
    })
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

/** What the ledger in a state directory says, by worker. */
export function readLedgers(directory: string) {
  const folder = join(directory, 'own', 'ledger')
  return readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .map(
      (name) =>
        JSON.parse(readFileSync(join(folder, name), 'utf8')) as {
          name: string
          directory: string
          cgroups: { kind: string; path: string }[]
          process?: { pid: number }
        },
    )
}
