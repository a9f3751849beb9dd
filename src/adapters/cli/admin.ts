import { createServer } from 'node:http'
import { H3, HTTPError, toNodeHandler } from 'h3'
import type { PoolStats } from '../../index.ts'
import { type Listener, listen } from './listener.ts'

export interface AdminState {
  /** Whether new sessions are taken. */
  isReady(): boolean
  /** `undefined` while the pool does not exist yet. */
  stats(): PoolStats | undefined
}

/**
 * Serves `/healthz` (the process lives), `/readyz` (it takes new sessions) and `/stats` (what the pool holds) on a
 * listener of its own, so that sessions cannot reach it.
 */
export function serveAdmin(state: AdminState, options: { host: string; port: number }): Promise<Listener> {
  const app = new H3({ silent: true })
  app.get('/healthz', () => ({ status: 'ok' }))
  app.get('/readyz', ({ res }) => {
    const ready = state.isReady()
    res.status = ready ? 200 : 503
    return { status: ready ? 'ready' : 'unready' }
  })
  app.get('/stats', () => {
    const stats = state.stats()
    if (stats === undefined) throw new HTTPError({ status: 503, message: 'The pool is starting' })
    return stats
  })
  return listen(createServer(toNodeHandler(app)), options)
}
