import type { IncomingMessage } from 'node:http'
import type * as openTelemetry from '@opentelemetry/api'
import type { Attributes, Span, TextMapGetter, TextMapPropagator, TextMapSetter, Tracer } from '@opentelemetry/api'
import type { Lease } from '../../index.ts'
import type { Reached, RequestRecord, RequestTrace } from '../h3/index.ts'
import { requestAttributes, responseAttributes, spanName } from './attributes.ts'
import type { TracingSettings } from './options.ts'

/** What the spans of one gateway share. */
export interface Tools {
  readonly api: typeof openTelemetry
  readonly tracer: Tracer
  readonly propagator: Pick<TextMapPropagator, 'inject' | 'extract' | 'fields'>
  readonly settings: TracingSettings
}

type Carrier = Record<string, string | undefined>

/** The span of one request, from its head to its end; that of a WebSocket lasts as long as that does. */
export class RequestSpan implements RequestTrace {
  /** The span's own context, for the worker. */
  readonly headers: Carrier = {}
  readonly #span: Span
  readonly #tools: Tools

  constructor(req: IncomingMessage, reached: Reached, tools: Tools) {
    const { api, tracer, propagator, settings } = tools
    const parent = propagator.extract(api.ROOT_CONTEXT, req.headers, getter)
    const options = { kind: api.SpanKind.SERVER, attributes: requestAttributes(req, reached, settings) }
    this.#tools = tools
    this.#span = tracer.startSpan(spanName(req.method), options, parent)
    // What the client sent of the context belongs to its own: what is not written anew is left out.
    for (const field of propagator.fields()) this.headers[field] = undefined
    propagator.inject(api.trace.setSpan(parent, this.#span), this.headers, setter)
  }

  leased({ worker, session }: Lease): void {
    if (!this.#span.isRecording()) return
    if (this.#tools.settings.sessionIds) this.#span.setAttribute('session.id', session.id)
    this.#span.setAttribute('corral.worker.id', worker.id)
    // The time between the start of the span and this is the wait.
    this.#span.addEvent('worker acquired')
  }

  end(record: RequestRecord): void {
    const { api } = this.#tools
    if (this.#span.isRecording()) {
      const attributes: Attributes = responseAttributes(record)
      this.#span.setAttributes(attributes)
      if ('error.type' in attributes) this.#span.setStatus({ code: api.SpanStatusCode.ERROR })
    }
    this.#span.end()
  }
}

const getter: TextMapGetter<IncomingMessage['headers']> = {
  keys: (headers) => Object.keys(headers),
  get: (headers, key) => headers[key.toLowerCase()],
}

const setter: TextMapSetter<Carrier> = {
  set: (carrier, key, value) => {
    carrier[key.toLowerCase()] = value
  },
}
