import fc from 'fast-check'
import type { PoolEventType, WearCause } from 'corral'
import type { FakeBehaviour } from '../support/fake-backend.ts'
import type { PoolWorld } from './_pool-world.ts'

/** One thing that a test does to the world, named so that a failing sequence reads as a story. */
class Act {
  readonly #name: string
  readonly #run: (world: PoolWorld) => unknown

  constructor(name: string, run: (world: PoolWorld) => unknown) {
    this.#name = name
    this.#run = run
  }

  async run(world: PoolWorld): Promise<void> {
    await this.#run(world)
    await world.step()
  }

  toString(): string {
    return this.#name
  }
}

const sessionId = fc.constantFrom('a', 'b', 'c', 'd', 'e')
const index = fc.nat({ max: 20 })

function pick<T>(items: readonly T[], at: number): T | undefined {
  return items[at % Math.max(1, items.length)]
}

const acquire = fc
  .tuple(sessionId, fc.constantFrom(undefined, undefined, undefined, 0, 400))
  .map(([id, timeout]) => new Act(`acquire ${id} ${timeout ?? ''}`, (world) => world.acquireAtRest(id, timeout)))

const acquireMany = fc
  .array(sessionId, { minLength: 2, maxLength: 5 })
  .map((ids) => new Act(`acquire ${ids.join(' ')}`, (world) => ids.forEach((id) => world.acquire(id, undefined))))

const release = index.map(
  (at) =>
    new Act(`release ${at}`, (world) => {
      const lease = pick(world.held, at)
      if (!lease) return
      world.held.splice(world.held.indexOf(lease), 1)
      lease.release()
      lease.release()
    }),
)

const touch = index.map(
  (at) =>
    new Act(`bytes move on ${at}`, (world) => {
      const lease = pick(world.held, at)
      if (lease) world.touch(lease)
    }),
)

const releaseOld = index.map(
  (at) =>
    new Act(`release again ${at}`, (world) => {
      const released = world.calls.flatMap(({ lease }) => (lease && !world.held.includes(lease) ? [lease] : []))
      pick(released, at)?.release()
    }),
)

const abort = index.map((at) => new Act(`abort ${at}`, (world) => pick(world.waiting(), at)?.abort.abort()))

const end = sessionId.map((id) => new Act(`end ${id}`, (world) => void world.pool.end(id)))

const endAndAcquire = sessionId.map(
  (id) =>
    new Act(`end and acquire ${id}`, (world) => {
      void world.pool.end(id)
      world.acquire(id, undefined)
    }),
)

const crash = fc
  .tuple(index, fc.boolean())
  .map(
    ([at, retry]) =>
      new Act(`exit ${at}${retry ? ' retry' : ''}`, (world) =>
        pick(world.backend.alive, at)?.exit({ exitCode: 1, retry }),
      ),
  )

const ready = index.map((at) => new Act(`ready ${at}`, (world) => pick(world.backend.alive, at)?.becomeReady()))

const unready = index.map((at) => new Act(`not ready ${at}`, (world) => pick(world.backend.alive, at)?.failReadiness()))

const failStart = fc.boolean().map(
  (retry) =>
    new Act(`next start fails${retry ? ', retry' : ''}`, (world) => {
      world.backend.script.push((worker) => worker.exit({ exitCode: 2, retry }))
    }),
)

const probe = fc.tuple(index, fc.constantFrom<('yes' | 'no' | 'never')[]>('yes', 'no', 'never')).map(
  ([at, answers]) =>
    new Act(`probes of ${at}: ${answers}`, (world) => {
      const worker = pick(world.backend.alive, at)
      if (worker) worker.answers = answers
    }),
)

const wear = fc
  .tuple(index, fc.constantFrom<WearCause[]>('age', 'memory'))
  .map(([at, cause]) => new Act(`worker ${at} is worn: ${cause}`, (world) => world.wear(at, cause)))

const behave = fc
  .record<FakeBehaviour>({ ready: fc.boolean(), stops: fc.boolean() })
  .map((behaviour) => new Act(`behave ${JSON.stringify(behaviour)}`, (world) => (world.backend.behaviour = behaviour)))

const reset = fc
  .constantFrom<('succeed' | 'fail' | 'hang')[]>('succeed', 'fail', 'hang')
  .map((resets) => new Act(`resets ${resets}`, (world) => (world.resets = resets)))

const pass = fc
  .constantFrom(1, 40, 100, 250, 500, 1_000, 2_500)
  .map((duration) => new Act(`${duration} ms pass`, (world) => world.clock.advance(duration)))

/** Listeners act while the pool is in the middle of something. */
const react = fc
  .tuple(
    fc.constantFrom<PoolEventType[]>(
      'worker.spawning',
      'worker.ready',
      'worker.crashed',
      'worker.worn',
      'worker.draining',
      'worker.restarting',
      'worker.dead',
      'session.started',
      'session.lost',
      'session.ended',
      'pool.breakerOpened',
      'pool.draining',
    ),
    fc.oneof(sessionId, fc.constant('the same')),
    fc.constantFrom<('acquire' | 'acquire now' | 'end' | 'abort' | 'release' | 'close')[]>(
      'acquire',
      'acquire now',
      'end',
      'abort',
      'release',
      'close',
    ),
  )
  .map(
    ([type, whose, act]) =>
      new Act(`at the next ${type}: ${act} ${whose}`, (world) => {
        const off = world.pool.on(type, (event) => {
          off()
          const id = whose === 'the same' && 'sessionId' in event ? event.sessionId : whose
          if (world.isResting) return
          if (act === 'acquire') world.acquire(id, undefined)
          if (act === 'acquire now') world.acquire(id, 0)
          if (act === 'end') void world.pool.end(id)
          if (act === 'abort') world.waiting()[0]?.abort.abort()
          if (act === 'release') world.held.shift()?.release()
          if (act === 'close' && id === 'a') void world.pool.close()
        })
      }),
  )

const press = fc
  .constantFrom(0.3, 0.3, 0.6, 0.9)
  .map((memory) => new Act(`${memory} of the host's memory is in use`, (world) => void world.host.sample({ memory })))

const drainWorker = fc
  .tuple(index, fc.constantFrom(0, 300, 5_000))
  .map(([at, deadline]) => new Act(`drain worker ${at} ${deadline}`, (world) => world.drainWorker(at, deadline)))

const drain = fc
  .constantFrom(0, 300, 5_000)
  .map((deadline) => new Act(`drain ${deadline}`, (world) => void world.pool.drain({ deadline })))

const close = fc.constant(new Act('close', (world) => void world.pool.close()))

/** The more often one stands here, the more often it comes. */
export const commands = [
  acquire,
  acquire,
  acquireMany,
  acquireMany,
  release,
  release,
  touch,
  releaseOld,
  abort,
  end,
  endAndAcquire,
  crash,
  ready,
  ready,
  unready,
  failStart,
  probe,
  behave,
  reset,
  drainWorker,
  wear,
  press,
  react,
  react,
  react,
  react,
  pass,
  pass,
  pass,
  fc.oneof({ weight: 9, arbitrary: pass }, { weight: 1, arbitrary: fc.oneof(drain, close) }),
]
