import type * as promClient from 'prom-client'
import { loadPeer } from '../peer.ts'

export type PromClient = typeof promClient

/** @throws `PEER_MISSING` */
export function loadPromClient(): Promise<PromClient> {
  return loadPeer('prom-client', 'corral/metrics', () => import('prom-client'))
}
