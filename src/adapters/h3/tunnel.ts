import type { Socket } from 'node:net'
import type { Lease } from '../../index.ts'
import type { Severable } from './upstream.ts'

/**
 * Two connections joined byte for byte, once the upgrade is through. No frame is parsed, so that sub-protocols, extensions,
 * pings and close codes are what the two ends make of them; a side that does not read holds the other one back.
 */
export class Tunnel implements Severable {
  readonly #client: Socket
  readonly #worker: Socket
  readonly #lease: Lease
  #linger: NodeJS.Timeout | undefined

  constructor(client: Socket, worker: Socket, lease: Lease) {
    this.#client = client
    this.#worker = worker
    this.#lease = lease
    for (const socket of [client, worker]) {
      socket.setTimeout(0)
      socket.setNoDelay(true)
      // A peer that vanished without a word is found out, so that its session can become idle.
      socket.setKeepAlive(true, keepAliveDelay)
    }
    this.#pump(client, worker)
    this.#pump(worker, client)
  }

  /** Cuts both connections. */
  sever(): void {
    this.#client.destroy()
    this.#worker.destroy()
  }

  #pump(from: Socket, to: Socket): void {
    from.on('data', (chunk: Buffer) => {
      this.#lease.touch()
      if (!to.write(chunk)) from.pause()
    })
    to.on('drain', () => from.resume())
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
