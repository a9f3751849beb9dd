import { ActorPool } from './actor-pool.ts'
import { resolveOptions, type PoolOptions, type PoolSettings } from './options.ts'
import type { Pool } from './pool.ts'

/**
 * Makes a pool and starts it. Resolves when `size.min` workers are healthy, which start in parallel.
 *
 * @throws `INVALID_OPTION`; `SANDBOX_UNAVAILABLE` when this machine cannot isolate or limit workers as asked;
 * `STATE_DIRECTORY_IN_USE`; `WORKER_START_FAILED` or `WORKER_START_TIMEOUT` when one of the first workers, or what starts
 * them, cannot be started, once everything that was started is stopped again; the reason of `options.signal`, or of
 * `options.forceSignal`, when it aborts.
 */
export async function createPool(options: PoolOptions): Promise<Pool> {
  const settings = resolveOptions(options)
  settings.signal?.throwIfAborted()
  settings.forceSignal?.throwIfAborted()
  if (settings.backend.open) await openBackend(settings)
  const pool = new ActorPool(settings)
  await pool.start()
  return pool
}

async function openBackend({ backend, signal: polite, forceSignal }: PoolSettings): Promise<void> {
  const signal = AbortSignal.any([polite, forceSignal].filter((one) => one !== undefined))
  try {
    await backend.open?.(signal)
  } catch (error) {
    signal.throwIfAborted()
    throw error
  }
  if (!signal.aborted) return
  await backend.close?.()
  throw signal.reason
}
