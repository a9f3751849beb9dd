import { setTimeout as sleep } from 'node:timers/promises'
import type { PoolEvent } from '../../index.ts'
import type { GatewayOptions, RequestRecord } from '../h3/index.ts'
import { type Metrics, createMetrics } from '../metrics/index.ts'
import { createTracing } from '../otel/index.ts'
import type { RunOptions } from './options.ts'
import type { Report } from './report.ts'

/** What is told of a run besides its report. */
export interface Telemetry {
  readonly metrics: Metrics | undefined
  readonly onEvent: (event: PoolEvent) => void
  /** For the gateway. */
  readonly hooks: Pick<GatewayOptions, 'onRequest' | 'trace'>
  /** Lets go of what is held back, when nothing is served any more. Takes so many milliseconds at most. */
  flush(limit: number): Promise<void>
}

/** @throws `PEER_MISSING` */
export async function createTelemetry(
  { metrics: hasMetrics, otel, accessLog }: Pick<RunOptions, 'metrics' | 'otel' | 'accessLog'>,
  report: Report,
): Promise<Telemetry> {
  const metrics = hasMetrics ? await createMetrics({ processMetrics: true }) : undefined
  const tracing = otel ? await createTracing() : undefined
  if (tracing?.hasSdk() === false) report({ type: 'warning', message: noSdk })
  const log = accessLog && ((record: RequestRecord) => report({ type: 'request.ended', ...logged(record, accessLog) }))
  return {
    metrics,
    onEvent: (event) => {
      report(event)
      metrics?.onEvent(event)
    },
    // The SDK tells by itself of spans that it cannot export.
    flush: (limit) => Promise.race([tracing?.flush().catch(() => {}), sleep(limit)]),
    hooks: {
      trace: tracing?.trace,
      onRequest: both(metrics && guarded(metrics.onRequest, report), log),
    },
  }
}

type OnRequest = NonNullable<GatewayOptions['onRequest']>

/** What only counts requests must not end all of them, as what a hook throws does. */
function guarded(onRequest: OnRequest, report: Report): OnRequest {
  return (record) => {
    try {
      onRequest(record)
    } catch (error) {
      report({ type: 'error', error })
    }
  }
}

/** `undefined` when there is none: requests are only followed where somebody is told. */
function both(first: OnRequest | undefined, second: OnRequest | undefined): OnRequest | undefined {
  if (first === undefined || second === undefined) return first ?? second
  return (record) => {
    first(record)
    second(record)
  }
}

const noSdk =
  '--otel: no OpenTelemetry SDK is registered, and spans go nowhere; have Node --import one, by NODE_OPTIONS'

/** A query may hold secrets, and is only logged on request. */
function logged(record: RequestRecord, { queries }: { readonly queries: boolean }): RequestRecord {
  return queries ? record : { ...record, target: record.target?.replace(/[?#].*$/s, '') }
}
