import { request } from 'node:http'
import type { WorkerAddress } from './backend.ts'

/** A body beyond this is not read to its end: the status is all that is asked for. */
const MAX_BODY = 64 * 1024

/** Nobody asks for informational responses, nor reads them: more than these are a flood, which need not go on until the time is over. */
const MAX_INFORMATION = 100

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
 * error, with the signal's reason, or after more than 100 informational responses.
 */
export function requestStatus(
  address: WorkerAddress,
  { method = 'GET', path, signal }: StatusRequest,
): Promise<number> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted()
    // `agent: false`: a kept-alive socket would prove that a worker accepted once, not that it accepts now.
    const headers = { ...(method !== 'GET' && { 'content-length': 0 }), 'user-agent': 'corral' }
    const outgoing = request({ ...target(address), method, path, headers, agent: false })
    const cut = () => {
      reject(signal.reason)
      outgoing.destroy()
    }
    signal.addEventListener('abort', cut, { once: true })
    let information = 0
    outgoing.on('information', () => {
      if (++information !== MAX_INFORMATION + 1) return
      outgoing.destroy(new Error(`${method} ${path} got more than ${MAX_INFORMATION} informational responses`))
    })
    outgoing.on('response', (response) => {
      let size = 0
      const answer = () => resolve(response.statusCode ?? 0)
      response.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size <= MAX_BODY) return
        answer()
        outgoing.destroy()
      })
      response.once('end', answer)
      response.on('error', reject)
    })
    outgoing.on('error', reject)
    outgoing.once('close', () => {
      signal.removeEventListener('abort', cut)
      reject(new Error(`the connection was closed before ${method} ${path} was answered`))
    })
    outgoing.end()
  })
}

function target(address: WorkerAddress) {
  return 'socketPath' in address ? { socketPath: address.socketPath } : { host: address.host, port: address.port }
}
