import { setTimeout as delay } from 'node:timers/promises'
import type { Pool } from 'corral'
import type { Client, Farewell } from './_client.ts'
import type { Pending } from './_pending.ts'
import type { Random } from './_random.ts'

/** What a user does next, and how often. */
const deeds = {
  get: 40,
  upload: 8,
  bytes: 8,
  lines: 4,
  converse: 22,
  abortGet: 3,
  abortUpload: 3,
  abortBytes: 2,
  abortSocket: 4,
  pause: 6,
}

export interface UserOptions {
  readonly name: string
  readonly pool: Pool
  readonly client: Client
  readonly random: Random
  readonly pending: Pending
  /** Sessions that several users share. */
  readonly shared: readonly string[]
  /** Longest pause, in milliseconds: longer than the idle TTL. */
  readonly longestPause: number
}

/** Lives through one session after the other until it is told to stop. */
export async function user(options: UserOptions, isOver: () => boolean): Promise<void> {
  const { name, random, pool, pending, shared } = options
  for (let n = 1; !isOver(); n++) {
    const id = random.chance(0.1) ? (random.pick(shared) ?? name) : `${name}-${n}`
    const steps = random.between(4, 40)
    for (let step = 0; step < steps && !isOver(); step++) {
      await pending.add(`${name} on ${id}`, act(id, options))
      await delay(random.between(10, 150))
    }
    // The others leave it to the idle TTL.
    if (random.chance(0.4)) await pending.add(`end of ${id}`, pool.end(id))
  }
}

async function act(id: string, { client, random, longestPause }: UserOptions): Promise<void> {
  const abortAfter = random.between(0, 30)
  const size = random.between(0, 100_000)
  const messages = random.between(1, 12)
  const farewell: Farewell = random.chance(0.8) ? 'close' : 'terminate'
  const chunked = random.chance(0.5) ? '&chunked' : ''
  const pause = random.between(0, longestPause)
  switch (random.weighted(deeds)) {
    case 'get':
      await client.exchange(id, { path: '/get' })
      return
    case 'upload':
      await client.exchange(id, { method: 'POST', path: '/upload', upload: size })
      return
    case 'bytes':
      await client.exchange(id, { path: `/bytes?n=${size}${chunked}`, bytes: size })
      return
    case 'lines':
      await client.exchange(id, { path: '/lines?n=20', lines: 20 })
      return
    case 'converse':
      await client.converse(id, messages, farewell)
      return
    case 'abortGet':
      await client.exchange(id, { path: '/lines?n=50', lines: 50, abortAfter })
      return
    case 'abortUpload':
      await client.exchange(id, { method: 'POST', path: '/upload', upload: size, abortAfter: abortAfter * 4 })
      return
    case 'abortBytes':
      await client.exchange(id, { path: `/bytes?n=${size * 10}${chunked}`, bytes: size * 10, abortAfter })
      return
    case 'abortSocket':
      await client.converse(id, 1, 'unanswered')
      return
    case 'pause':
      await delay(pause)
      return
  }
}
