import type { Socket } from 'node:net'
import type { Lease } from '../../index.ts'
import type { Refusal } from './problem.ts'
import type { Severable } from './upstream.ts'
import { stalled } from './upstream.ts'

interface TunnelOptions {
  /** Longest time that the worker may hold the client back and be silent; `0`: no limit. */
  readonly sendTimeout: number
  /** Told when that time is over, and the tunnel cut. */
  readonly onStalled: (refusal: Refusal) => void
}

/**
 * Two connections joined byte for byte, once the upgrade is through. No frame is parsed, so that sub-protocols, extensions,
 * pings and close codes are what the two ends make of them; a side that does not read holds the other one back.
 */
export class Tunnel implements Severable {
  readonly #client: Socket
  readonly #worker: Socket
  readonly #lease: Lease
  #linger: NodeJS.Timeout | undefined

  constructor(client: Socket, worker: Socket, lease: Lease, { sendTimeout, onStalled }: TunnelOptions) {
    this.#client = client
    this.#worker = worker
    this.#lease = lease
    for (const socket of [client, worker]) {
      socket.setTimeout(0)
      socket.setNoDelay(true)
      // A peer that vanished without a word is found out, so that its session can become idle.
      socket.setKeepAlive(true, keepAliveDelay)
    }
    this.#pump(client, worker, sendTimeout)
    // A client that leaves while bytes wait for it makes their write fail.
    this.#pump(worker, client, 0)
    worker.on('timeout', () => {
      onStalled(stalled())
      this.sever()
    })
  }

  /** Cuts both connections. */
  sever(): void {
    this.#client.destroy()
    this.#worker.destroy()
  }

  #pump(from: Socket, to: Socket, stallTimeout: number): void {
    from.on('data', (chunk: Buffer) => {
      this.#lease.touch()
      if (to.write(chunk)) return
      from.pause()
      if (stallTimeout > 0) to.setTimeout(stallTimeout)
    })
    to.on('drain', () => {
      if (stallTimeout > 0) to.setTimeout(0)
      from.resume()
    })
    from.on('end', () => {
      to.end()
      this.#bound()
    })
    from.on('error', () => {})
    from.on('close', () => {
      if (this.#client.closed && this.#worker.closed) {
        clearTimeout(this.#linger)
        return
      }
      // What has arrived from the one still goes to the other.
      to.destroySoon()
      this.#bound()
    })
    from.resume()
  }

  /** One end is done: the other one has a while to finish. */
  #bound(): void {
    this.#linger ??= setTimeout(() => this.sever(), lingerTimeout).unref()
  }
}

const keepAliveDelay = 60_000
const lingerTimeout = 5_000
