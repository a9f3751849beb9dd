import { beforeEach, expect, test } from 'vitest'
import { openPool, rejection, type Scene } from '../support/scene.ts'
import { settled } from '../support/virtual-clock.ts'

/** `w1` is idle and will be leased next. */
let scene: Scene

beforeEach(async () => {
  scene = await openPool({ size: { min: 2, max: 4 } })
  const lease = await scene.acquire('other')
  expect(lease.worker.id).toBe('w2')
  lease.release()
})

/** What a listener asks for is dealt with in order, and what comes of it is heard of only after that. */
async function asListener(act: () => void): Promise<void> {
  const off = scene.pool.on('session.ended', () => {
    off()
    act()
  })
  await scene.pool.end('other')
  await settled()
}

const toldOf = (id: string) => scene.events.filter((event) => 'sessionId' in event && event.sessionId === id)

test('a session that is over before the news of its start gets the next worker', async () => {
  let lease: ReturnType<Scene['acquire']> | undefined
  await asListener(() => {
    lease = scene.acquire('a')
    void scene.pool.drainWorker('w1', { deadline: 0 })
  })
  expect((await lease)?.worker.id).toBe('w3')
  expect(toldOf('a')).toMatchObject([{ type: 'session.started', workerId: 'w3' }])
  expect(scene.pool.workers().map(({ id }) => id)).not.toContain('w1')
})

test('nobody hears of one that everybody has left, too', async () => {
  const leaving = new AbortController()
  let lease: ReturnType<Scene['acquire']> | undefined
  await asListener(() => {
    lease = scene.acquire('a', { signal: leaving.signal })
    void scene.pool.drainWorker('w1', { deadline: 0 })
    leaving.abort()
  })
  expect(await rejection(lease!)).toMatchObject({ name: 'AbortError' })
  expect(toldOf('a')).toEqual([])
  expect(scene.pool.stats()).toMatchObject({ leases: 0, queue: { sessions: 0 }, totals: { sessionsStarted: 1 } })
})

test('whoever waits for one is refused when the pool drains', async () => {
  let lease: ReturnType<Scene['acquire']> | undefined
  await asListener(() => {
    lease = scene.acquire('a')
    void scene.pool.close()
  })
  expect(await rejection(lease!)).toMatchObject({ code: 'POOL_DRAINING' })
  expect(toldOf('a')).toEqual([])
})
