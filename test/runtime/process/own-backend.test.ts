import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createPool } from 'corral'
import type { WorkerBackend } from 'corral'

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'own-'))
  vi.stubEnv('TMPDIR', directory)
})

afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(directory, { recursive: true })
})

const server = `
import { createServer } from 'node:http'
import { parentPort, threadId, workerData } from 'node:worker_threads'
parentPort.once('message', () => process.exit(0))
createServer((_request, response) => response.end(String(threadId))).listen(workerData.socketPath)
`

/** The backend that docs/workers.md shows, as it stands there. */
async function documentedBackend(source: string): Promise<WorkerBackend> {
  const page = readFileSync(new URL('../../../docs/workers.md', import.meta.url), 'utf8')
  const [, code = ''] = /```js\n(.*?)```/s.exec(page) ?? []
  writeFileSync(join(directory, 'backend.mjs'), code)
  writeFileSync(join(directory, 'server.mjs'), source)
  const { threadWorker } = (await import(pathToFileURL(join(directory, 'backend.mjs')).href)) as {
    threadWorker: (file: string) => WorkerBackend
  }
  return threadWorker(join(directory, 'server.mjs'))
}

async function get(socketPath: string): Promise<string> {
  const [response] = (await once(request({ socketPath, agent: false }).end(), 'response')) as [IncomingMessage]
  return String(await response.toArray())
}

test('the backend of the documentation serves a pool and leaves nothing behind', async () => {
  const pool = await createPool({ worker: await documentedBackend(server), size: { min: 1, max: 2 } })
  const [red, again, blue] = await Promise.all(['red', 'red', 'blue'].map((id) => pool.acquire(id)))
  const answers = await Promise.all(
    [red, again, blue].map((lease) => get((lease!.worker.address as { socketPath: string }).socketPath)),
  )
  expect(answers[0]).toBe(answers[1])
  expect(answers[0]).not.toBe(answers[2])
  await pool.close()
  expect(readdirSync(directory)).toEqual(['backend.mjs', 'server.mjs'])
})

test('the backend of the documentation reports a worker that cannot start', async () => {
  const worker = await documentedBackend(`throw new Error('no licence')`)
  await expect(createPool({ worker, size: { min: 1 } })).rejects.toMatchObject({
    code: 'WORKER_START_FAILED',
    output: ['Error: no licence'],
  })
})
