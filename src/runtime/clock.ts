/** The time that a pool runs on: timers for its charts, and a reading for the age of its sessions. */
export interface Clock {
  setTimeout(callback: () => void, delay: number): unknown
  clearTimeout(timer: unknown): void
  /** Milliseconds since some fixed moment; never goes back. */
  now(): number
  /** That moment in milliseconds since the Unix epoch, for times that are shown to people. @default 0 */
  readonly timeOrigin?: number
}

export const systemClock: Clock = {
  setTimeout: (callback, delay) => setTimeout(callback, delay),
  clearTimeout: (timer) => clearTimeout(timer as NodeJS.Timeout),
  now: () => performance.now(),
  timeOrigin: performance.timeOrigin,
}

/** A reading of `clock` in whole milliseconds since the Unix epoch. */
export function toEpoch(clock: Clock, time: number): number {
  return Math.round((clock.timeOrigin ?? 0) + time)
}

/** Resolves after `delay` milliseconds of `clock`; rejects with the signal's reason as soon as `signal` aborts. */
export function sleep(clock: Clock, delay: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted()
    const onAbort = () => {
      clock.clearTimeout(timer)
      reject(signal.reason as Error)
    }
    const timer = clock.setTimeout(() => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    }, delay)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}
