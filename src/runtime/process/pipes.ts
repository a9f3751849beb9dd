import type { Readable } from 'node:stream'
import { setImmediate as tick, setTimeout as delay } from 'node:timers/promises'
import type { OutputTail } from './output.ts'

/** How long a pipe may stay open after the process and its group are gone: a daemon that left the group can hold it on. */
const PIPE_GRACE = 100

/** For how long a pipe is left alone that has brought more than could be looked at in passing: twice what that takes. */
const FLOOD_PAUSE = 20

const NAMES = ['stdout', 'stderr'] as const

interface Pipes {
  readonly stdout: Readable
  readonly stderr: Readable
}

/**
 * Reads what a process writes for as long as it writes, so that it never waits for a reader.
 *
 * @returns a function to call once the process is gone: it resolves when all that was written has been read.
 */
export function drainPipes(pipes: Pipes, tails: { stdout: OutputTail; stderr: OutputTail }) {
  const closes = NAMES.map((name) => {
    const pipe = pipes[name]
    pipe.on('data', (chunk: Buffer) => {
      if (!tails[name].write(chunk)) return
      // Node would read a busy pipe some thirty times before it looked at anything else.
      pipe.pause()
      setTimeout(() => pipe.resume(), FLOOD_PAUSE)
    })
    pipe.on('error', () => {}) // A broken pipe is the end of the output, nothing more.
    pipe.resume()
    return new Promise((resolve) => {
      pipe.once('close', resolve)
    })
  })
  const closed = Promise.all(closes)
  return async function finish(): Promise<void> {
    await Promise.race([closed, pass(PIPE_GRACE, closed)])
    for (const name of NAMES) {
      pipes[name].destroy()
      tails[name].end()
    }
  }
}

async function pass(time: number, done: Promise<unknown>): Promise<void> {
  const stop = new AbortController()
  void done.then(() => stop.abort())
  await delay(time, undefined, { signal: stop.signal }).catch(() => {})
  // If this process has been too busy to read, this lets it read what is in the pipes.
  if (!stop.signal.aborted) await tick()
}
