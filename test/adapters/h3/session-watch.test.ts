import { once } from 'node:events'
import type { Http2Session } from 'node:http2'
import { connect, createServer } from 'node:http2'
import { connect as connectTcp } from 'node:net'
import { constants } from 'node:os'
import { expect, onTestFinished, test, vi } from 'vitest'
import { SessionWatch } from '../../../src/adapters/h3/session-watch.ts'
import { listenOn } from './_scene.ts'

interface Handle {
  getpeername: (address: object) => number
}

/** A session of HTTP/2 on a server, and the handle of its connection. */
async function openSession(): Promise<{ readonly session: Http2Session; readonly handle: Handle }> {
  const server = createServer()
  const opened = once(server, 'session') as Promise<[Http2Session]>
  const accepted = once(server, 'connection') as Promise<[{ readonly _handle: Handle }]>
  const port = await listenOn(server)
  const client = connect(`http://127.0.0.1:${port}`, { createConnection: () => connectTcp(port, '127.0.0.1') })
  client.on('error', () => {})
  onTestFinished(() => client.destroy())
  const [[session], [{ _handle: handle }]] = await Promise.all([opened, accepted])
  return { session, handle }
}

test('a session whose connection has no peer any more, which Node.js does not hear of, is destroyed, and no other', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  onTestFinished(() => void vi.useRealTimers())
  const watch = new SessionWatch()
  const [gone, open] = [await openSession(), await openSession()]
  watch.add(gone.session)
  watch.add(open.session)
  vi.advanceTimersByTime(1_000)
  expect([gone.session.destroyed, open.session.destroyed]).toEqual([false, false])
  gone.handle.getpeername = () => -constants.errno.ENOTCONN
  const closed = once(gone.session, 'close')
  vi.advanceTimersByTime(1_000)
  await closed
  expect([gone.session.destroyed, open.session.destroyed]).toEqual([true, false])
  open.session.destroy()
  await once(open.session, 'close')
  vi.advanceTimersByTime(1_000)
  expect(vi.getTimerCount()).toBe(0)
})
