import type { Registry } from 'prom-client'
import { check, isBoolean, object } from '../check.ts'

export interface MetricsOptions {
  /**
   * The registry of prom-client that the metrics are added to. Two pools need one each, as the names are the same; give them
   * default labels to tell them apart.
   *
   * @default one of its own
   */
  readonly registry?: Registry | undefined
  /** Whether to add prom-client's metrics of this process: CPU, memory, event loop, garbage collection. @default false */
  readonly processMetrics?: boolean | undefined
}

export interface MetricsSettings {
  readonly registry: Registry | undefined
  readonly processMetrics: boolean
}

/** @throws `INVALID_OPTION` */
export function readOptions(options: MetricsOptions): MetricsSettings {
  object('options', options, ['registry', 'processMetrics'])
  const { registry, processMetrics = false } = options
  return {
    registry: check('registry', 'a Registry of prom-client', registry, (it) => it === undefined || isRegistry(it)),
    processMetrics: check('processMetrics', 'a boolean', processMetrics, isBoolean),
  }
}

function isRegistry(value: unknown): boolean {
  const { registerMetric } = (value ?? {}) as Partial<Registry>
  return typeof registerMetric === 'function'
}
