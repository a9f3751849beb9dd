import { closeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { isatty } from 'node:tty'
import { isClosed } from './line-output.ts'

const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const

/**
 * Longest time between the copies of one signal. Ctrl-C reaches every process of a terminal, and a parent such as npm
 * passes its own copy on: that is one request to stop, not two. Another signal is nobody's copy.
 */
const ECHO_MS = 300

export interface StopSignals {
  /** Aborts on the first signal, with its name as the reason. */
  readonly stop: AbortSignal
  /** Aborts on the second one. */
  readonly cut: AbortSignal
}

/**
 * Takes over the signals that ask a process to end. The default would leave the workers behind: they are in process
 * groups of their own, where a closed terminal or a Ctrl-C does not reach them.
 */
export function watchSignals(now: () => number = () => performance.now()): StopSignals {
  const stop = new AbortController()
  const cut = new AbortController()
  for (const name of SIGNALS) {
    let last = -Infinity
    process.on(name, () => {
      if (now() - last < ECHO_MS) return
      last = now()
      if (stop.signal.aborted) cut.abort(name)
      else stop.abort(name)
    })
  }
  // Node would open its inspector, by which other processes of this user, workers maybe, could run code in here.
  process.on('SIGUSR1', () => {})
  // Without a listener the process would end at once and leave its workers. A terminal that fails is gone.
  process.stdout.on('error', (error) => {
    if (isClosed(error) || process.stdout.isTTY) stop.abort('SIGPIPE')
  })
  process.stderr.on('error', () => {})
  closeLostTerminals()
  return { stop: stop.signal, cut: cut.signal }
}

/** Node sets terminals back at its end, and aborts where one is gone: `ResetStdio` in its src/node.cc, which leaves out what is closed. */
function closeLostTerminals(): void {
  const terminals = [0, 1, 2].filter((fd) => isatty(fd))
  process.on('exit', () => {
    for (const fd of terminals) if (!isatty(fd)) closeSync(fd)
  })
}

/** Resolves when the signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

/** Resolves after so many milliseconds, or so many after the second signal, whichever is sooner. */
export function timeUp(limit: number, cut: AbortSignal, afterCut: number): Promise<void> {
  return Promise.race([sleep(limit), aborted(cut).then(() => sleep(afterCut))])
}
