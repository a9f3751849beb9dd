import type { Registry } from 'prom-client'
import type { Pool, PoolEvent } from '../../index.ts'
import type { Gateway, GatewayFailure, RequestRecord } from '../h3/index.ts'
import { addGauges, type Watched } from './gauges.ts'
import { type MetricsOptions, readOptions } from './options.ts'
import { loadPromClient } from './prom-client.ts'
import { RequestMetrics } from './request-metrics.ts'
import { WorkerMetrics } from './worker-metrics.ts'

/** Metrics of a pool and its gateway, for Prometheus. Made by {@link createMetrics}. */
export interface Metrics {
  readonly registry: Registry
  /** Media type of what {@link Metrics.render} makes. */
  readonly contentType: string
  /** For {@link PoolOptions.onEvent}: counts starts, crashes and sessions from the very first. */
  readonly onEvent: (event: PoolEvent) => void
  /** For {@link GatewayOptions.onRequest}: counts requests, bytes and waits. */
  readonly onRequest: (record: RequestRecord) => void
  /** For {@link GatewayOptions.onError}: counts what was refused before there was a request. */
  readonly onError: (failure: GatewayFailure) => void
  /** Tells the gauges what to read when they are scraped. Until then they have no values. */
  watch(pool: Pool, gateway?: Gateway): void
  /** Everything in the registry, in the text format of Prometheus. */
  render(): Promise<string>
}

/**
 * Makes the metrics, which count nothing until they are connected.
 *
 * @throws `INVALID_OPTION`; `PEER_MISSING` when prom-client is not installed
 * @example
 * const metrics = await createMetrics()
 * const pool = await createPool({ worker, onEvent: metrics.onEvent })
 * const gateway = createGateway(pool, { sessionId, onRequest: metrics.onRequest, onError: metrics.onError })
 * metrics.watch(pool, gateway)
 * await createAdmin(pool, { metrics }).listen()
 */
export async function createMetrics(options: MetricsOptions = {}): Promise<Metrics> {
  const settings = readOptions(options)
  const prom = await loadPromClient()
  const registry = settings.registry ?? new prom.Registry()
  const watched: Watched = { pool: undefined, gateway: undefined }
  addGauges(prom, [registry], watched)
  const workers = new WorkerMetrics(prom, [registry])
  const requests = new RequestMetrics(prom, [registry])
  if (settings.processMetrics) prom.collectDefaultMetrics({ register: registry })
  return {
    registry,
    contentType: registry.contentType,
    onEvent: (event) => workers.observe(event),
    onRequest: (record) => requests.observe(record),
    onError: (failure) => requests.refuse(failure),
    watch: (pool, gateway) => {
      watched.pool = pool
      watched.gateway = gateway
    },
    render: () => registry.metrics(),
  }
}
