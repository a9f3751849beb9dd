import { once } from 'node:events'
import { connect } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { RequestRecord } from 'corral/h3'
import { TurnBudget } from '../../../src/adapters/clients/turn-budget.ts'
import type { Scene } from '../h3/_scene.ts'
import { dial, openScene } from '../h3/_scene.ts'

const KIB = 1024

/** Flows without end that pass on a piece of 64 KiB each time that they may. */
function open(count: number) {
  const budget = new TurnBudget()
  const pieces = Array.from({ length: count }, () => 0)
  const flows = pieces.map((_, index) => ({
    goOn() {
      pieces[index]!++
      budget.spend(64 * KIB)
      budget.hold(this)
    },
  }))
  return { budget, pieces, flows }
}

test('a turn is used up by a MiB, and the next one is not', async () => {
  const budget = new TurnBudget()
  budget.spend(1024 * KIB - 1)
  expect(budget.isSpent).toBe(false)
  budget.spend(1)
  expect(budget.isSpent).toBe(true)
  await turn()
  expect(budget.isSpent).toBe(false)
})

test('flows that have more take turns: no turn passes on more than a MiB, and none waits longer than the others', async () => {
  const { pieces, flows } = open(100)
  for (const flow of flows) flow.goOn()
  // All of them at once was far too much.
  await turn()
  expect(pieces.reduce((sum, count) => sum + count, 0)).toBe(101)
  for (let turns = 1; turns <= 50; turns++) {
    const before = pieces.reduce((sum, count) => sum + count, 0)
    await turn()
    expect(pieces.reduce((sum, count) => sum + count, 0) - before).toBe(16)
    expect(Math.max(...pieces) - Math.min(...pieces)).toBeLessThanOrEqual(1)
  }
})

test('a piece counts for a KiB, however small it is', () => {
  const budget = new TurnBudget()
  for (let pieces = 0; pieces < 1023; pieces++) budget.spend(1)
  expect(budget.isSpent).toBe(false)
  budget.spend(1)
  expect(budget.isSpent).toBe(true)
})

test('64 requests begin in a turn, in the order in which they came', async () => {
  const budget = new TurnBudget()
  const begun: number[] = []
  for (let index = 0; index < 150; index++) {
    if (budget.mayBegin()) begun.push(index)
    else budget.defer(() => begun.push(index))
  }
  for (const count of [64, 128, 150]) {
    expect(begun).toEqual(Array.from({ length: count }, (_, index) => index))
    // Those that waited count in the turn in which they begin.
    expect(budget.mayBegin()).toBe(count === 150)
    await turn()
  }
})

test('one that is alone goes on with every turn', async () => {
  const { pieces, flows } = open(1)
  flows[0]!.goOn()
  for (let turns = 1; turns <= 5; turns++) {
    await turn()
    expect(pieces).toEqual([1 + turns])
  }
})

describe('while connections are accepted', () => {
  test('a turn is used up by 64 KiB, the one after it too, and then by a MiB again', async () => {
    const budget = new TurnBudget()
    budget.accepted()
    for (let turns = 0; turns < 2; turns++) {
      budget.spend(64 * KIB - 1)
      expect(budget.isSpent).toBe(false)
      budget.spend(1)
      expect(budget.isSpent).toBe(true)
      await turn()
    }
    budget.spend(64 * KIB)
    expect(budget.isSpent).toBe(false)
  })

  test('one flow goes on with each turn, and none waits longer than the others', async () => {
    const { budget, pieces, flows } = open(10)
    for (const flow of flows) flow.goOn()
    for (let turns = 1; turns <= 20; turns++) {
      budget.accepted()
      await turn()
      expect(pieces.reduce((sum, count) => sum + count, 0)).toBe(10 + turns)
      expect(Math.max(...pieces) - Math.min(...pieces)).toBeLessThanOrEqual(1)
    }
  })

  test('eight requests begin in each turn, and then as many as usual', async () => {
    const budget = new TurnBudget()
    const begun: number[] = []
    const request = (index: number) => {
      if (budget.mayBegin()) begun.push(index)
      else budget.defer(() => begun.push(index))
    }
    budget.accepted()
    for (let index = 0; index < 40; index++) request(index)
    expect(begun.length).toBe(8)
    budget.accepted()
    await turn()
    expect(begun.length).toBe(16)
    await turn()
    expect(begun).toEqual(Array.from({ length: 40 }, (_, index) => index))
    expect(budget.mayBegin()).toBe(true)
  })

  /** Connects `count` times at once; resolves with what `look` said as each connection was accepted. */
  async function connectMany<T>({ port, listener }: Scene, count: number, look: () => T): Promise<T[]> {
    const seen: T[] = []
    listener.server.on('connection', () => seen.push(look()))
    const clients = Array.from({ length: count }, () => connect(port, '127.0.0.1'))
    onTestFinished(() => clients.forEach((client) => client.destroy()))
    while (seen.length < count) await once(listener.server, 'connection')
    return seen
  }

  test('nobody who connects waits for a MiB of downloads', async () => {
    const piece = Buffer.alloc(64 * KIB)
    const scene = await openScene((_req, res) => {
      const pour = () => {
        while (res.write(piece));
      }
      res.on('drain', pour)
      pour()
    })
    let received = 0
    for (let count = 0; count < 64; count++) {
      const { socket } = await dial(scene.port)
      socket.removeAllListeners('data')
      socket.on('data', (chunk: Buffer) => (received += chunk.length))
      socket.write('GET / HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n')
      await once(socket, 'data')
    }
    const seen = await connectMany(scene, 100, () => received)
    // The first ones share their turns with what was on its way.
    expect((seen[99]! - seen[49]!) / 50).toBeLessThan(256 * KIB)
  })

  test('nobody who connects waits for all requests that came, which are answered even so', async () => {
    const records: RequestRecord[] = []
    const scene = await openScene((req, res) => res.end(req.url), { onRequest: (record) => records.push(record) })
    const clients = await Promise.all(Array.from({ length: 60 }, () => dial(scene.port)))
    for (const client of clients) {
      client.send('OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n')
      await client.head()
    }
    const seen = connectMany(scene, 100, () => scene.pool.acquired.length)
    await once(scene.listener.server, 'connection')
    clients.forEach((client, index) =>
      client.send(`GET /${10 + index} HTTP/1.1\r\nHost: a\r\nX-Session-Id: red\r\n\r\n`),
    )
    const leaving = clients.splice(40)
    await once(scene.listener.server, 'connection')
    for (const { socket } of leaving) socket.resetAndDestroy()
    const answers = clients.map(async (client) => (await client.head()).slice(0, 15) + (await client.takeBytes(3)))
    expect(await Promise.all(answers)).toEqual(clients.map((_, index) => `HTTP/1.1 200 OK/${10 + index}`))
    const begun = (await seen).map((count, index, counts) => count - (counts[index - 1] ?? count))
    // Some of a turn come behind the connection of it, and those of the next before its own.
    expect(Math.max(...begun)).toBeLessThanOrEqual(16)
    expect(await scene.pool.idle()).toBe(0)
    await vi.waitUntil(() => records.length === 120)
  })
})
