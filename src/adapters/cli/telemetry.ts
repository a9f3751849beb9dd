import type { PoolEvent } from '../../index.ts'
import type { GatewayOptions, RequestRecord } from '../h3/index.ts'
import { type Metrics, createMetrics } from '../metrics/index.ts'
import { createTracing } from '../otel/index.ts'
import { formatDuration } from './duration.ts'
import type { RunOptions } from './options.ts'
import type { Report } from './report.ts'
import { timeUp } from './signals.ts'

/** What is told of a run besides its report. */
export interface Telemetry {
  readonly metrics: Metrics | undefined
  readonly onEvent: (event: PoolEvent) => void
  /** For the gateway. */
  readonly hooks: Pick<GatewayOptions, 'onRequest' | 'trace'>
  /** Lets go of what is held back, when nothing is served any more. Takes 3 seconds at most, or one from when `cut` aborts. */
  flush(cut: AbortSignal): Promise<void>
}

/** How long the flush may take, in milliseconds. */
const flushTimeout = 3_000
/** After a second signal. */
const lastFlush = 1_000

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
    flush: async (cut) => {
      if (!tracing) return
      // The SDK tells by itself of spans that it cannot export.
      const flushed = tracing.flush().catch(() => {})
      const isLate = await Promise.race([
        flushed.then(() => false),
        timeUp(flushTimeout, cut, lastFlush).then(() => true),
      ])
      if (isLate) report({ type: 'warning', message: notExported(cut.aborted ? lastFlush : flushTimeout) })
    },
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

function notExported(limit: number): string {
  return `--otel: the last spans were not exported within ${formatDuration(limit)}, and are lost; does the collector answer?`
}

/** A query may hold secrets, and is only logged on request. */
function logged(record: RequestRecord, { queries }: { readonly queries: boolean }): RequestRecord {
  return queries ? record : { ...record, target: record.target?.replace(/[?#].*$/s, '') }
}
