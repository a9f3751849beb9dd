import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { awaitReader } from '../../../src/adapters/cli/unread-output.ts'

// By those that can be replaced.
vi.mock('node:timers/promises', () => ({
  setTimeout: (milliseconds: number) => new Promise((resolve) => void setTimeout(resolve, milliseconds)),
}))

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** What is left of 1,000 bytes, and after how many milliseconds the wait for them was over. */
async function waitWhile(read: (time: number) => number, cut = new AbortController().signal) {
  const begun = performance.now()
  const time = () => Math.round(performance.now() - begun)
  const waiting = awaitReader(() => Math.max(0, 1_000 - read(time())), cut).then((left) => ({ left, time: time() }))
  await vi.advanceTimersByTimeAsync(10_000)
  return waiting
}

test('nothing is waited for where all is taken', async () => {
  expect(await waitWhile(() => 1_000)).toEqual({ left: 0, time: 0 })
})

test('a reader that begins within 2 seconds gets all of it', async () => {
  expect(await waitWhile((time) => (time < 1_900 ? 0 : 1_000))).toEqual({ left: 0, time: 1_900 })
})

test('a reader that takes nothing for 2 seconds is given up', async () => {
  expect(await waitWhile((time) => (time < 1_000 ? 0 : 400))).toEqual({ left: 600, time: 3_000 })
})

test('a reader that goes on taking some has 5 seconds', async () => {
  expect(await waitWhile((time) => time / 10)).toEqual({ left: 500, time: 5_000 })
})

test('what comes while some is waited for is waited for, too', async () => {
  const read = (time: number) => (time < 1_900 ? 0 : time < 3_800 ? -1_000 : 1_000)
  expect(await waitWhile(read)).toEqual({ left: 0, time: 3_800 })
})

test.each([
  ['before', 0, 400],
  ['during', 600, 1_000],
])('a second signal %s the wait leaves 400 ms of it', async (_, at, end) => {
  const cut = new AbortController()
  if (at === 0) cut.abort()
  else setTimeout(() => cut.abort(), at)
  const { left, time } = await waitWhile(() => 0, cut.signal)
  expect({ left, time }).toEqual({ left: 1_000, time: end })
})
