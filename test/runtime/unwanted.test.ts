import { expect, test } from 'vitest'
import { FakeBackend } from '../support/fake-backend.ts'
import { openPool } from '../support/scene.ts'
import { settled } from '../support/virtual-clock.ts'

test('a probe under way is given up when its worker is gone', async () => {
  const { backend, clock } = await openPool({ size: { min: 1, max: 1 } })
  const worker = backend.worker('w1')
  worker.answers = 'never'
  await clock.advance(backend.liveness.interval)
  expect(worker).toMatchObject({ probes: 1, abandoned: 0 })
  worker.exit()
  await settled()
  expect(worker.abandoned).toBe(1)
})

test('a pool that is closed while a worker is launched is told of no crash', async () => {
  const backend = new FakeBackend({ launches: false })
  const { acquire, pool, told } = await openPool({ size: { min: 0, max: 1 } }, backend)
  void acquire('a')
  await settled()
  const closed = pool.close()
  backend.launches[0]?.succeed()
  await closed
  expect(told('worker.crashed')).toEqual([])
  expect(told('worker.dead')).toMatchObject([{ workerId: 'w1', reason: 'stopped' }])
})
