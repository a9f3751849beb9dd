import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { FakeBackend } from '../support/fake-backend.ts'
import { openPool } from '../support/scene.ts'

/** A pool of one fake worker that answers a reset with `status`, or hangs up, after a session was served. */
async function resetWith(status: number | 'hang up') {
  const asked: string[] = []
  const server = createServer((req, res) => {
    asked.push(`${req.method} ${req.url}`)
    if (status === 'hang up') req.socket.destroy()
    else res.writeHead(status).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const { port } = server.address() as AddressInfo
  const backend = new FakeBackend()
  backend.script.push((worker) => Object.assign(worker.address, { port }))
  const { acquire, pool, told } = await openPool(
    { size: { min: 1, max: 1 }, session: { reuse: { reset: '/reset?all' } } },
    backend,
  )
  const done = new Promise<void>((resolve) => {
    pool.on('worker.resetting', () => {
      pool.on('worker.ready', () => resolve())
      pool.on('worker.draining', () => resolve())
    })
  })
  const lease = await acquire('a')
  lease.release()
  await pool.end('a')
  await done
  return { asked, told, backend }
}

describe('with a reset path', () => {
  test.each([200, 204, 299])('the worker gets a POST and serves again when it answers %i', async (status) => {
    const { asked, told, backend } = await resetWith(status)
    expect(asked).toEqual(['POST /reset?all'])
    expect(told('worker.draining')).toEqual([])
    expect(backend.calls).toBe(1)
  })

  test.each([
    [302, 'answered with status 302'],
    [404, 'answered with status 404'],
    [500, 'answered with status 500'],
    ['hang up', 'was not answered: socket hang up'],
  ] as const)('the worker is replaced when its answer is: %s', async (status, problem) => {
    const { asked, told } = await resetWith(status)
    expect(asked).toEqual(['POST /reset?all'])
    const failure = { code: 'WORKER_RESET_FAILED', message: `The reset hook POST /reset?all ${problem}` }
    expect(told('worker.draining')).toMatchObject([{ workerId: 'w1', failure }])
  })
})
