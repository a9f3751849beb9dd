import type { Writable } from 'node:stream'
import { dial } from './_scene.ts'

/** Writes `size` bytes to a stream, as fast as it takes them. */
export class Pour {
  /** How many the stream has got so far; it may still hold the last of them itself. */
  written = 0
  /** Resolves when it has taken all of them. */
  readonly finished: Promise<void>

  constructor(to: Writable, size: number) {
    this.finished = this.#pour(to, size)
  }

  async #pour(to: Writable, size: number): Promise<void> {
    const chunk = Buffer.alloc(64 * 1024, 'x')
    while (this.written < size) {
      this.written += chunk.length
      if (!to.write(chunk)) await new Promise((resolve) => to.once('drain', resolve))
    }
  }

  /**
   * Resolves, with what has been written by then, when the stream takes no more while the gateway answers somebody else
   * {@link rounds} times. All ends are in this process, and each turn of its loop serves every connection that is ready: if any
   * of them could pass something on it would, and the stream would drain. To be called when all of them are connected.
   *
   * @param port the gateway's.
   */
  async blocked(port: number): Promise<number> {
    const other = await dial(port)
    let before = -1
    for (let still = 0; still < rounds; still++) {
      other.send('OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n')
      await other.head()
      if (this.written !== before) still = 0
      before = this.written
    }
    other.socket.destroy()
    return before
  }
}

const rounds = 20
