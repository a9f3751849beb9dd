import { once } from 'node:events'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { RawConnection } from '../_scene.ts'
import { dial } from '../_scene.ts'
import type { Stage } from './_stage.ts'
import { echo, expectRefusal, openRawStage, openStage, request, response } from './_stage.ts'

const leave = ['end', 'destroy', 'resetAndDestroy'] as const

/** A request to `/n`; with a body unless it is `GET`. */
function to(method: string, n: number | string): string {
  return method === 'GET'
    ? request(`GET /${n} HTTP/1.1`)
    : request(`${method} /${n} HTTP/1.1`, ['Content-Length: 3'], 'abc')
}

/** The lines of the requests that the worker got, connection by connection. */
function lines({ got }: Stage): string[][] {
  return got.map((text) => text.match(/[A-Z]+ \/\S+(?= HTTP)/g) ?? [])
}

describe('a connection that the worker closes when a request has come', () => {
  /** Answers one request, and closes the connection when the next one has come. */
  function openStale(how: (typeof leave)[number]) {
    let stale: RawConnection | undefined
    return openStage((worker, text) => {
      stale ??= worker
      if (worker === stale && !text.startsWith('GET /first')) worker.socket[how]()
      else echo(worker, text)
    })
  }

  test.each(leave.flatMap((how) => ['GET', 'PUT', 'DELETE', 'OPTIONS'].map((method) => [method, how] as const)))(
    '%s is sent again, whole, on another one (%s)',
    async (method, how) => {
      const stage = await openStale(how)
      stage.client.send(to('GET', 'first'))
      await response(stage.client)
      stage.client.send(to(method, 'second'))
      expect(await response(stage.client)).toMatchObject({ status: 200, body: `${method} /second` })
      expect(lines(stage)).toEqual([['GET /first', `${method} /second`], [`${method} /second`]])
      const [sent, again] = stage.got as [string, string]
      expect(sent.endsWith(again)).toBe(true)
      expect(await stage.pool.idle()).toBe(0)
      expect(stage.failures).toEqual([])
    },
  )

  test.each(leave.flatMap((how) => ['POST', 'PATCH'].map((method) => [method, how] as const)))(
    '%s is never sent twice: 502 (%s)',
    async (method, how) => {
      const stage = await openStale(how)
      stage.client.send(to('GET', 'first'))
      await response(stage.client)
      stage.client.send(to(method, 'second').replace('Host: a', 'Host: a\r\nConnection: close'))
      await expectRefusal(stage, 502, 'UPSTREAM_FAILED')
      expect(lines(stage)).toEqual([['GET /first', `${method} /second`]])
    },
  )

  test('is replaced once: when the other one is closed, too, it is 502', async () => {
    const stage = await openStage((worker, text) => {
      if (text.startsWith('GET /first')) echo(worker, text)
      else worker.socket.end()
    })
    stage.client.send(to('GET', 'first'))
    await response(stage.client)
    stage.client.send(request('GET /second HTTP/1.1', ['Connection: close']))
    await expectRefusal(stage, 502, 'UPSTREAM_FAILED')
    expect(lines(stage)).toEqual([['GET /first', 'GET /second'], ['GET /second']])
  })

  test('with a part of an answer is a failure: nothing is sent twice', async () => {
    const stage = await openStage((worker, text) => {
      if (text.startsWith('GET /first')) echo(worker, text)
      else worker.socket.end('HTTP/1.1 2')
    })
    stage.client.send(to('GET', 'first'))
    await response(stage.client)
    stage.client.send(request('GET /second HTTP/1.1', ['Connection: close']))
    await expectRefusal(stage, 502, 'UPSTREAM_FAILED')
    expect(lines(stage)).toEqual([['GET /first', 'GET /second']])
  })

  test('a body that was streamed is not sent twice', async () => {
    const stage = await openRawStage(async (worker) => {
      echo(worker, await worker.head())
      await worker.head()
      await worker.take('abc')
      worker.socket.end()
    })
    stage.client.send(to('GET', 'first'))
    await response(stage.client)
    stage.client.send(request('PUT /second HTTP/1.1', ['Connection: close', 'Content-Length: 6'], 'abc'))
    await expectRefusal(stage, 502, 'UPSTREAM_FAILED')
    expect(lines(stage)).toEqual([['GET /first', 'PUT /second']])
  })
})

describe('a connection that the worker has closed before a request comes', () => {
  test.each(leave.flatMap((how) => ['GET', 'POST'].map((method) => [method, how] as const)))(
    'costs %s nothing (%s)',
    async (method, how) => {
      const connections: RawConnection[] = []
      const stage = await openStage((worker, text) => {
        if (connections.at(-1) !== worker) connections.push(worker)
        echo(worker, text)
      })
      for (let n = 0; n < 3; n++) {
        stage.client.send(to(method, n))
        expect(await response(stage.client)).toMatchObject({ status: 200, body: `${method} /${n}` })
        const { socket } = connections.at(-1) as RawConnection
        const closed = once(socket, 'close')
        socket[how]()
        await closed
      }
      expect(lines(stage)).toEqual([[`${method} /0`], [`${method} /1`], [`${method} /2`]])
    },
  )

  test('with its response, or anywhere near the next request: every idempotent request is answered, every other at most once', async () => {
    const stage = await openStage((worker, text) => {
      echo(worker, text)
      const close = () => worker.socket[leave[Math.floor(Math.random() * leave.length)] ?? 'end']()
      if (Math.random() < 0.2) close()
      else if (Math.random() < 0.5) setImmediate(close)
      else setTimeout(close, Math.random() * 3)
    })
    const outcomes = { GET: new Set<number>(), POST: new Set<number>() }
    await Promise.all(
      Array.from({ length: 4 }, async (_, c) => {
        const client = await dial(stage.port)
        for (let i = 0; i < 100; i++) {
          const method = i % 2 === 0 ? 'GET' : 'POST'
          client.send(to(method, `${c}-${i}`))
          const { status, body } = await response(client)
          outcomes[method].add(status)
          if (status === 200) expect(body).toBe(`${method} /${c}-${i}`)
        }
      }),
    )
    expect([...outcomes.GET]).toEqual([200])
    expect([...outcomes.POST].filter((status) => status !== 200 && status !== 502)).toEqual([])
    const posts = lines(stage)
      .flat()
      .filter((line) => line.startsWith('POST'))
    expect(new Set(posts).size).toBe(posts.length)
    expect(await stage.pool.idle()).toBe(0)
  })
})

describe('a request that cannot be repeated', () => {
  test('does not go on a connection that has been idle for a second, which the worker may be closing', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    onTestFinished(() => void vi.useRealTimers())
    const stage = await openStage()
    const send = async (method: string, n: number) => {
      stage.client.send(to(method, n))
      expect((await response(stage.client)).status).toBe(200)
    }
    await send('POST', 0)
    vi.advanceTimersByTime(999)
    await send('POST', 1)
    vi.advanceTimersByTime(1_000)
    await send('POST', 2)
    vi.advanceTimersByTime(10_000)
    await send('GET', 3)
    expect(lines(stage)).toEqual([
      ['POST /0', 'POST /1'],
      ['POST /2', 'GET /3'],
    ])
  })
})
