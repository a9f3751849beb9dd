import type { Tunnel } from './tunnel.ts'

/**
 * Asks the clients of silent WebSockets whether they are still there: one timer for all of them, none when there are none.
 */
export class Heartbeat {
  readonly #tunnels = new Set<Tunnel>()
  readonly #interval: number
  #timer: NodeJS.Timeout | undefined

  /** @param interval how long a client may be silent before it is asked, in milliseconds; `0`: none is ever asked. */
  constructor(interval: number) {
    this.#interval = interval
  }

  add(tunnel: Tunnel): void {
    if (this.#interval === 0) return
    this.#tunnels.add(tunnel)
    this.#timer ??= setInterval(() => this.#beat(), Math.max(1, this.#interval / beatsPerInterval)).unref()
  }

  delete(tunnel: Tunnel): void {
    this.#tunnels.delete(tunnel)
    if (this.#tunnels.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #beat(): void {
    for (const tunnel of this.#tunnels) tunnel.beat(beatsPerInterval)
  }
}

/** The silence of a client is told to a quarter of the interval. */
const beatsPerInterval = 4
