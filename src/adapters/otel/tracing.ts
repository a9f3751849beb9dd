import type { IncomingMessage } from 'node:http'
import type { TracerProvider } from '@opentelemetry/api'
import type { Reached, RequestTrace } from '../h3/index.ts'
import { loadPeer } from '../peer.ts'
import { type TracingOptions, readOptions } from './options.ts'
import { RequestSpan } from './request-span.ts'

/** Traces of requests. Made by {@link createTracing}. */
export interface Tracing {
  /** For {@link GatewayOptions.trace}. */
  readonly trace: (req: IncomingMessage, reached: Reached) => RequestTrace
  /** Whether there is an SDK that takes the spans by now: without one nobody ever sees them. */
  hasSdk(): boolean
  /**
   * Has the SDK export the spans that it holds back: before the process ends, when nothing is served any more. Settles as the SDK's
   * `forceFlush` does.
   */
  flush(): Promise<void>
}

/**
 * Makes a span of kind SERVER for each request and each WebSocket, as a child of the client's, and as the parent of whatever the
 * worker makes of it. Without an SDK that is registered, or given, it only passes the client's context on.
 *
 * @throws `INVALID_OPTION`; `PEER_MISSING` when \@opentelemetry/api is not installed
 * @example
 * const { trace } = await createTracing()
 * createGateway(pool, { sessionId: fromHeader('x-session-id'), trace })
 */
export async function createTracing(options: TracingOptions = {}): Promise<Tracing> {
  const settings = readOptions(options)
  const api = await loadPeer('@opentelemetry/api', 'corral/otel', () => import('@opentelemetry/api'))
  const { tracerProvider = api.trace, propagator = api.propagation } = settings
  const tracer = tracerProvider.getTracer('corral')
  const tools = { api, tracer, propagator, settings }
  const sdk = (): SdkProvider => {
    const provider = settings.tracerProvider ?? api.trace.getTracerProvider()
    return provider instanceof api.ProxyTracerProvider ? provider.getDelegate() : provider
  }
  return {
    trace: (req, reached) => new RequestSpan(req, reached, tools),
    // The delegate of nobody's is the one that does nothing.
    hasSdk: () => sdk() !== new api.ProxyTracerProvider().getDelegate(),
    flush: async () => {
      await sdk().forceFlush?.()
    },
  }
}

/** The API has no word for it, and every SDK has. */
interface SdkProvider extends TracerProvider {
  forceFlush?(): Promise<void>
}
