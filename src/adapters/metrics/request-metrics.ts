import type { Registry } from 'prom-client'
import type { GatewayFailure, ProblemCode, RequestRecord } from '../h3/index.ts'
import type { PromClient } from './prom-client.ts'

/** Requests and WebSockets, counted when they are over. */
export class RequestMetrics {
  readonly #requests
  readonly #received
  readonly #sent
  readonly #duration
  readonly #wait
  readonly #malformed
  /** Made once each, as there are few: a request brings none of its own. */
  readonly #labels = { http: labelsByOutcome(), websocket: labelsByOutcome() }

  constructor(prom: PromClient, registers: Registry[]) {
    this.#requests = new prom.Counter({
      name: 'corral_requests_total',
      help: 'Requests and WebSockets that are over.',
      labelNames: ['kind', 'outcome', 'code', 'status'],
      registers,
    })
    this.#received = new prom.Counter({
      name: 'corral_received_bytes_total',
      help: 'Bytes of content from clients, of requests and WebSockets that are over.',
      labelNames: ['kind', 'outcome'],
      registers,
    })
    this.#sent = new prom.Counter({
      name: 'corral_sent_bytes_total',
      help: 'Bytes of content to clients, of requests and WebSockets that are over.',
      labelNames: ['kind', 'outcome'],
      registers,
    })
    this.#duration = new prom.Histogram({
      name: 'corral_request_duration_seconds',
      help: 'Time from the head of a request to the end of its response. Without WebSockets.',
      labelNames: ['outcome'],
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
      registers,
    })
    this.#wait = new prom.Histogram({
      name: 'corral_acquire_wait_seconds',
      help: 'Time that requests and WebSockets waited for the worker of their session.',
      labelNames: ['outcome'],
      buckets: [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
      registers,
    })
    this.#malformed = new prom.Counter({
      name: 'corral_malformed_requests_total',
      help: 'What was refused before there was a request.',
      labelNames: ['code'],
      registers,
    })
    // A series that appears with its first event hides that event from rate().
    for (const code of malformedCodes) this.#malformed.inc({ code }, 0)
  }

  /** Those that were requests are counted by {@link observe}. */
  refuse({ code, method }: GatewayFailure): void {
    if (method === undefined) this.#malformed.inc({ code })
  }

  observe(record: RequestRecord): void {
    const { request, traffic, outcome, wait } = this.#labelsOf(record)
    this.#requests.inc(request)
    this.#received.inc(traffic, record.bytesIn)
    this.#sent.inc(traffic, record.bytesOut)
    if (record.kind === 'http') this.#duration.observe(outcome, record.duration / 1000)
    if (record.wait !== undefined) this.#wait.observe(granted, record.wait / 1000)
    // Without a worker all of its time was the wait; without a session there was none.
    else if (wait !== undefined && record.sessionId !== undefined) this.#wait.observe(wait, record.duration / 1000)
  }

  #labelsOf(record: RequestRecord): Labels {
    const { kind, outcome, status } = record
    const code = record.code ?? ''
    const byCode = this.#labels[kind][outcome]
    let byStatus = byCode.get(code)
    if (byStatus === undefined) byCode.set(code, (byStatus = []))
    const statusClass = status === undefined ? 0 : Math.trunc(status / 100)
    return (byStatus[statusClass] ??= {
      request: { kind, outcome, code, status: statusClass === 0 ? '' : `${statusClass}xx` },
      traffic: { kind, outcome },
      outcome: { outcome },
      wait: waitOf(outcome, code),
    })
  }
}

const malformedCodes: readonly ProblemCode[] = [
  'REQUEST_MALFORMED',
  'HEADERS_TOO_LARGE',
  'HTTP_VERSION_UNSUPPORTED',
  'CLIENT_TIMEOUT',
]

interface Labels {
  readonly request: Record<'kind' | 'outcome' | 'code' | 'status', string>
  readonly traffic: Record<'kind' | 'outcome', string>
  readonly outcome: Record<'outcome', string>
  /** How a wait ended that brought no worker; `undefined` when it was not the wait that ended the request. */
  readonly wait: Record<'outcome', string> | undefined
}

/** By code, or `''` without one; then by the first digit of the status, or 0 without one. */
type LabelsByCode = Map<ProblemCode | '', Labels[]>

function labelsByOutcome(): Record<RequestRecord['outcome'], LabelsByCode> {
  return { answered: new Map(), refused: new Map(), cut: new Map(), left: new Map() }
}

const granted = { outcome: 'granted' }

function waitOf(outcome: RequestRecord['outcome'], code: ProblemCode | ''): Labels['wait'] {
  const name = outcome === 'left' ? 'left' : code === '' ? undefined : refusedWaits[code]
  return name === undefined ? undefined : { outcome: name }
}

const refusedWaits: Readonly<Partial<Record<ProblemCode, string>>> = {
  ACQUIRE_TIMEOUT: 'timeout',
  QUEUE_FULL: 'queue_full',
  TENANT_LIMIT: 'tenant_limit',
  HOST_PRESSURE: 'host_pressure',
  WORKER_START_FAILED: 'start_failed',
  WORKER_START_TIMEOUT: 'start_failed',
  POOL_DRAINING: 'draining',
  POOL_CLOSED: 'draining',
}
