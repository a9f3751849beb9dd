import { setTimeout as sleep } from 'node:timers/promises'
import { timeUp } from './signals.ts'

/** How long a reader may take nothing, in milliseconds. */
const longestPause = 2_000
/** How long all of it may take. */
const mostTime = 5_000
/** After a second signal: together with the other limits of a stop less than the 5 seconds that are promised. */
const lastTime = 400
const lookEvery = 20

/**
 * Waits for the reader of an output, as the end of the process throws away what waits for it: as long as it goes on taking some, and not
 * without end. Resolves to the bytes that it has not taken.
 *
 * @param unread how many bytes wait now
 */
export async function awaitReader(unread: () => number, cut: AbortSignal): Promise<number> {
  let left = unread()
  if (left === 0) return 0
  const over = new AbortController()
  void timeUp(mostTime, cut, lastTime).then(() => over.abort())
  let since = performance.now()
  while (left > 0 && !over.signal.aborted && performance.now() - since < longestPause) {
    await sleep(lookEvery)
    const before = left
    left = unread()
    // More of them, too: of lines that were lost is told when there is room again.
    if (left !== before) since = performance.now()
  }
  return left
}

/** Bytes of standard output that wait for a reader: none in a file or at a terminal, nor where the reader is gone. */
export function unreadOutput(): number {
  const { destroyed, writableLength, bytesWritten, _handle: handle } = process.stdout as PipeStream
  if (destroyed || writableLength === 0 || !handle) return 0
  return bytesWritten - handle.bytesWritten + handle.writeQueueSize
}

/**
 * All lines that wait become one write, of which a stream knows no parts: `writableLength` stays as it is until the last byte is taken. Node
 * looks at the same for the timeouts of sockets: `_onTimeout` in its lib/net.js.
 */
type PipeStream = typeof process.stdout & {
  /** Absent where the stream is none of libuv's. */
  readonly _handle?: {
    /** What it was given. */
    readonly bytesWritten: number
    /** What of that was not taken yet. */
    readonly writeQueueSize: number
  }
}
