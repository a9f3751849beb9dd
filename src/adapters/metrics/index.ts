export { createMetrics } from './metrics.ts'
export type { Metrics } from './metrics.ts'
export type { MetricsOptions } from './options.ts'
