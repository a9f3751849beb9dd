import type { TextMapPropagator, TracerProvider } from '@opentelemetry/api'
import { check, isBoolean, object } from '../check.ts'

export interface TracingOptions {
  /** Where spans are made. @default the one that is registered globally, of the time when a span is made */
  readonly tracerProvider?: TracerProvider | undefined
  /** Reads the context of clients and writes it for workers. @default the one that is registered globally */
  readonly propagator?: TextMapPropagator | undefined
  /**
   * Whether spans have the id of the session (`session.id`). Whoever knows an id can use the session: only where those who read the
   * traces may.
   *
   * @default false
   */
  readonly sessionIds?: boolean | undefined
  /** Whether spans have the query of the target (`url.query`), which may hold secrets. @default false */
  readonly queries?: boolean | undefined
}

export interface TracingSettings {
  readonly tracerProvider: TracerProvider | undefined
  readonly propagator: TextMapPropagator | undefined
  readonly sessionIds: boolean
  readonly queries: boolean
}

/** @throws `INVALID_OPTION` */
export function readOptions(options: TracingOptions): TracingSettings {
  object('options', options, ['tracerProvider', 'propagator', 'sessionIds', 'queries'])
  const { tracerProvider, propagator, sessionIds = false, queries = false } = options
  return {
    tracerProvider: check('tracerProvider', 'a TracerProvider', tracerProvider, has('getTracer')),
    propagator: check('propagator', 'a TextMapPropagator', propagator, has('inject')),
    sessionIds: check('sessionIds', 'a boolean', sessionIds, isBoolean),
    queries: check('queries', 'a boolean', queries, isBoolean),
  }
}

function has(method: string): (value: unknown) => boolean {
  return (value) => value === undefined || typeof (value as Record<string, unknown> | null)?.[method] === 'function'
}
