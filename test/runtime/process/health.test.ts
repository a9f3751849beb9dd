import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { Probe } from '../../../src/runtime/process/health.ts'
import { connectProbe, pollUntilHealthy } from '../../../src/runtime/process/health.ts'

const never = new AbortController().signal
const delays = vi.hoisted((): number[] => [])

vi.mock('node:timers/promises', async (importOriginal) => ({
  ...(await importOriginal<object>()),
  // Noted, and over at once.
  setTimeout: async (time: number, _value: unknown, { signal }: { signal: AbortSignal }) => {
    delays.push(time)
    await new Promise(setImmediate)
    signal.throwIfAborted()
  },
}))

afterEach(() => {
  delays.length = 0
})

const failing = async () => Promise.reject(new Error('not yet'))

/** Fails as often as told, then succeeds. */
function failingTimes(times: number) {
  return async () => {
    if (times-- > 0) throw new Error('not yet')
  }
}

describe('polling', () => {
  test('is frequent at first, and keeps a worker waiting for no more than a tenth of what its start took', async () => {
    await pollUntilHealthy(failingTimes(80), { timeout: 100, signal: never })
    expect(delays.slice(0, 3)).toEqual([2, 2 * 1.1, 2 * 1.1 * 1.1])
    let elapsed = 0
    for (const pause of delays) {
      expect(pause).toBeLessThanOrEqual(2 + elapsed * 0.1 + 1e-9)
      elapsed += pause
    }
    expect(delays.at(-1)).toBe(250)
  })

  test('does not pause before the first probe', async () => {
    await pollUntilHealthy(failingTimes(0), { timeout: 100, signal: never })
    expect(delays).toEqual([])
  })

  test('goes on when a probe hangs, and gives the next more time', async () => {
    const patience: (() => void)[] = []
    const hang = () => new Promise<void>(() => {})
    const answers = [hang, hang, async () => {}]
    const timers = vi.spyOn(globalThis, 'setTimeout')
    await pollUntilHealthy(() => answers.shift()!(), {
      timeout: 30,
      signal: never,
      onFailure: () => void patience.push(),
    })
    expect(timers.mock.calls.map(([, time]) => time)).toEqual([30, 30, 30])
    timers.mockClear()
    const more = [hang, async () => {}]
    await pollUntilHealthy(() => more.shift()!(), { timeout: 400, signal: never })
    expect(timers.mock.calls.map(([, time]) => time)).toEqual([250, 400])
    timers.mockRestore()
  })

  test('aborts the signal of a probe that ran out of time', async () => {
    const reasons: unknown[] = []
    const probe = (signal: AbortSignal) => {
      if (reasons.length > 0) return Promise.resolve()
      signal.addEventListener('abort', () => reasons.push(signal.reason))
      return new Promise<void>(() => {})
    }
    await pollUntilHealthy(probe, { timeout: 10, signal: never })
    expect(reasons).toMatchObject([{ message: 'no full answer within 10 ms' }])
  })

  test('reports each failure', async () => {
    const failures: unknown[] = []
    await pollUntilHealthy(failingTimes(2), {
      timeout: 9,
      signal: never,
      onFailure: (error) => void failures.push(error),
    })
    expect(failures).toMatchObject([{ message: 'not yet' }, { message: 'not yet' }])
  })

  test('ends with what the report of a failure throws', async () => {
    const onFailure = async () => Promise.reject(new Error('stranger'))
    await expect(pollUntilHealthy(failing, { timeout: 9, signal: never, onFailure })).rejects.toThrow('stranger')
  })

  test.each(['a probe', 'a pause'])(
    'ends with the reason when its signal aborts during %s, and leaves no timer',
    async (when) => {
      const reason = new Error('enough')
      const controller = new AbortController()
      const timersBefore = countTimers()
      const hang = () => {
        setImmediate(() => controller.abort(reason))
        return new Promise<void>(() => {})
      }
      const abortInPause = async () => {
        setImmediate(() => controller.abort(reason))
        throw new Error('not yet')
      }
      const probe = when === 'a probe' ? hang : abortInPause
      await expect(pollUntilHealthy(probe, { timeout: 5_000, signal: controller.signal })).rejects.toBe(reason)
      expect(countTimers()).toBe(timersBefore)
    },
  )

  test('does not begin when its signal has aborted before', async () => {
    const probe = vi.fn<Probe>(failing)
    await expect(pollUntilHealthy(probe, { timeout: 9, signal: AbortSignal.abort('no') })).rejects.toBe('no')
    expect(probe).not.toHaveBeenCalled()
  })
})

describe('the connect probe', () => {
  test('resolves when a connection is accepted, and closes it', async () => {
    const server = createServer()
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const accepted = once(server, 'connection')
    const address = { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
    await expect(connectProbe(address)(never)).resolves.toBeUndefined()
    const [socket] = (await accepted) as [NodeJS.ReadableStream]
    socket.resume()
    await once(socket, 'end')
    await once(server.close(), 'close')
  })

  test('rejects when nobody listens', async () => {
    const server = createServer()
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const { port } = server.address() as AddressInfo
    await once(server.close(), 'close')
    await expect(connectProbe({ host: '127.0.0.1', port })(never)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    await expect(connectProbe({ socketPath: '/no/such/socket' })(never)).rejects.toMatchObject({ code: 'ENOENT' })
  })

  test('rejects with the reason when its signal aborts', async () => {
    const controller = new AbortController()
    const server = createServer()
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const probe = connectProbe({ host: '127.0.0.1', port: (server.address() as AddressInfo).port })(controller.signal)
    controller.abort('enough')
    await expect(probe).rejects.toBe('enough')
    await once(server.close(), 'close')
  })
})

function countTimers(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
}
