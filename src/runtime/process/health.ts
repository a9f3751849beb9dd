import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { WorkerAddress } from '../backend.ts'
import { requestStatus } from '../http-client.ts'

/** Resolves when the worker is healthy, rejects when it is not or when `signal` aborts. */
export type Probe = (signal: AbortSignal) => Promise<void>

const FIRST_DELAY = 2
/** Of the pauses: a worker that is ready waits for its next probe a tenth of what its start took, at the most. */
const GROWTH = 1.1
const LONGEST_DELAY = 250
const FIRST_TIMEOUT = 250

/** `GET path` is answered with a status from 200 to 399. */
export function httpProbe(address: WorkerAddress, path: string): Probe {
  return async (signal) => {
    const status = await requestStatus(address, { path, signal })
    if (status < 200 || status > 399) throw new Error(`GET ${path} was answered with status ${status}`)
  }
}

/** A connection is accepted. */
export function connectProbe(address: WorkerAddress): Probe {
  return (signal) =>
    new Promise((resolve, reject) => {
      signal.throwIfAborted()
      const socket = 'socketPath' in address ? connect(address.socketPath) : connect(address.port, address.host)
      const cut = () => {
        reject(signal.reason)
        socket.destroy()
      }
      signal.addEventListener('abort', cut, { once: true })
      socket.once('close', () => signal.removeEventListener('abort', cut))
      socket.on('error', reject)
      socket.once('connect', () => {
        // TCP lets a socket connect to itself when its own port happens to be the one it looks for.
        const isItself = socket.localPort !== undefined && socket.localPort === socket.remotePort
        if (isItself) reject(new Error('nobody listens'))
        else resolve()
        socket.destroy()
      })
    })
}

export interface PollOptions {
  /** Longest time for one probe, in milliseconds. */
  readonly timeout: number
  readonly signal: AbortSignal
  /** Gets each failure. What it throws or rejects with ends the polling. */
  readonly onFailure?: (error: unknown) => void | Promise<void>
}

/**
 * Probes until it succeeds: at first every 2 ms, then ever more rarely, down to every 250 ms. A probe is given 250 ms, and
 * twice as long after each that ran out of time, up to `timeout`: a worker that accepts before it can answer must not
 * hold up the probe that would succeed. Rejects with the signal's reason when that aborts.
 */
export async function pollUntilHealthy(probe: Probe, { timeout, signal, onFailure }: PollOptions): Promise<void> {
  let patience = Math.min(FIRST_TIMEOUT, timeout)
  for (let wait = FIRST_DELAY; ; wait = Math.min(wait * GROWTH, LONGEST_DELAY)) {
    signal.throwIfAborted()
    try {
      await withTimeout(probe, patience, signal)
      return
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof ProbeTimeout) patience = Math.min(patience * 2, timeout)
      await onFailure?.(error)
    }
    await delay(wait, undefined, { signal }).catch(() => signal.throwIfAborted())
  }
}

class ProbeTimeout extends Error {}

/** Also for probes that do not listen to their signal. */
async function withTimeout(probe: Probe, timeout: number, signal: AbortSignal): Promise<void> {
  const controller = new AbortController()
  const abort = () => controller.abort(signal.reason)
  const timer = setTimeout(() => controller.abort(new ProbeTimeout(`no full answer within ${timeout} ms`)), timeout)
  signal.addEventListener('abort', abort, { once: true })
  try {
    await Promise.race([probe(controller.signal), rejectOnAbort(controller.signal)])
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', abort)
  }
}

/** To race with what does not listen to a signal itself. Never settles without one. */
export function rejectOnAbort(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal?.throwIfAborted()
    signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}
