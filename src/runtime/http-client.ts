import { request } from 'node:http'
import type { WorkerAddress } from './backend.ts'

/** A body beyond this is not read to its end: the status is all that is asked for. */
const MAX_BODY = 64 * 1024

export interface StatusRequest {
  /** @default 'GET' */
  readonly method?: string
  /** Request target: starts with `/`, query included. */
  readonly path: string
  /** Aborting it cuts the request off. The only limit on time. */
  readonly signal: AbortSignal
}

/**
 * Sends one request without a body to a worker, on a connection of its own, and resolves with the status of the answer
 * once that has been read to its end (or for its first 64 KiB). Redirects are not followed. Rejects with the connection's
 * error, or with the signal's reason.
 */
export function requestStatus(
  address: WorkerAddress,
  { method = 'GET', path, signal }: StatusRequest,
): Promise<number> {
  const { promise, resolve, reject } = withResolvers<number>()
  if (signal.aborted) {
    reject(signal.reason)
    return promise
  }
  // `agent: false`: a kept-alive socket would prove that a worker accepted once, not that it accepts now.
  const headers = { ...(method !== 'GET' && { 'content-length': 0 }), 'user-agent': 'corral' }
  const outgoing = request({ ...target(address), method, path, headers, agent: false })
  const cut = () => {
    reject(signal.reason)
    outgoing.destroy()
  }
  signal.addEventListener('abort', cut, { once: true })
  outgoing.on('response', (response) => {
    let size = 0
    const status = response.statusCode ?? 0
    response.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size <= MAX_BODY) return
      resolve(status)
      outgoing.destroy()
    })
    response.once('end', () => resolve(status))
    response.on('error', reject)
  })
  outgoing.on('error', reject)
  outgoing.once('close', () => {
    signal.removeEventListener('abort', cut)
    reject(new Error(`the connection was closed before ${method} ${path} was answered`))
  })
  outgoing.end()
  return promise
}

function target(address: WorkerAddress) {
  return 'socketPath' in address ? { socketPath: address.socketPath } : { host: address.host, port: address.port }
}

function withResolvers<T>() {
  let resolve!: (value: T) => void
  let reject!: (reason: unknown) => void
  // oxlint-disable-next-line promise/param-names
  const promise = new Promise<T>((settle, fail) => {
    resolve = settle
    reject = fail
  })
  return { promise, resolve, reject }
}
