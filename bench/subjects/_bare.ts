import type { IncomingMessage, ServerResponse } from 'node:http'
import { Pool } from 'undici'
import type { Dispatcher } from 'undici'

/**
 * The least that a proxy on undici does: the request's fields without those of its connection, dispatched straight into the
 * raw response. No sessions, no limits, no trailers, no errors but a cut connection.
 */
export class BareProxy {
  readonly #pools = new Map<string, Pool>()

  forward(req: IncomingMessage, res: ServerResponse, target: string, path: string): void {
    let pool = this.#pools.get(target)
    if (pool === undefined) {
      pool = new Pool(target)
      this.#pools.set(target, pool)
    }
    const { method } = req
    const body = req.headers['content-length'] === undefined ? null : req
    pool.dispatch(
      { path, method: method as Dispatcher.HttpMethod, headers: requestFields(req.rawHeaders), body },
      new Handler(res),
    )
  }
}

class Handler implements Dispatcher.DispatchHandler {
  readonly #res: ServerResponse
  #resume: (() => void) | undefined

  constructor(res: ServerResponse) {
    this.#res = res
    res.on('drain', () => this.#resume?.())
  }

  onConnect(): void {}

  onHeaders(status: number, raw: Buffer[], resume: () => void, reason: string): boolean {
    this.#resume = resume
    this.#res.writeHead(status, reason, responseFields(raw))
    return true
  }

  onData(chunk: Buffer): boolean {
    return this.#res.write(chunk)
  }

  onComplete(): void {
    this.#res.end()
  }

  onError(): void {
    this.#res.destroy()
  }
}

const ownFields = new Set(['connection', 'keep-alive', 'host', 'transfer-encoding'])

function requestFields(raw: readonly string[]): string[] {
  const fields: string[] = []
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as string
    if (!ownFields.has(name.toLowerCase())) fields.push(name, raw[i + 1] as string)
  }
  return fields
}

function responseFields(raw: readonly Buffer[]): string[] {
  const fields: string[] = []
  for (let i = 0; i < raw.length; i += 2) {
    const name = (raw[i] as Buffer).toString('latin1')
    if (!ownFields.has(name.toLowerCase())) fields.push(name, (raw[i + 1] as Buffer).toString('latin1'))
  }
  return fields
}
