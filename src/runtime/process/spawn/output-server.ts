import { chmod, rename, unlink } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { dirname, join } from 'node:path'
import { fileAt } from '../file.ts'
import { outputHeader } from './protocol.ts'

const LINE_FEED = 0x0a
const MAX_HEADER = 128

/**
 * Where the output of processes arrives that another process has started: each stream is a connection of its own, which
 * that process hands to the worker. Nothing of it is copied on the way.
 */
export class OutputServer {
  readonly #path: string
  #server: Server | undefined
  #file: string | undefined
  /** Those whose socket somebody has removed: what has connected by then is still to be greeted. */
  readonly #former: Server[] = []
  readonly #expected = new Map<string, (socket: Socket) => void>()
  /** Connections that have not said yet whose they are. */
  readonly #strangers = new Set<Socket>()

  private constructor(path: string) {
    this.#path = path
  }

  /** @param path of its unix socket, in a directory for this user alone. */
  static async listen(path: string): Promise<OutputServer> {
    const outputs = new OutputServer(path)
    await outputs.#listen()
    return outputs
  }

  /** Listens anew, at the same path, when the socket is not there any more, or a copy of it. What is connected stays. Not twice at once. */
  async mend(): Promise<void> {
    const file = await fileAt(this.#path)
    if (file === undefined || file !== this.#file) await this.#listen()
  }

  /** The streams of the process `id`, when they come. `cancel` when they never will. */
  expect(id: string): { streams: Promise<[stdout: Socket, stderr: Socket]>; cancel: () => void } {
    const headers = [outputHeader(id, 'stdout'), outputHeader(id, 'stderr')]
    const arrived: Socket[] = []
    const arrivals = headers.map(
      (header) =>
        new Promise<Socket>((resolve) => {
          this.#expected.set(header, (socket) => {
            arrived.push(socket)
            resolve(socket)
          })
        }),
    )
    return {
      streams: Promise.all(arrivals) as Promise<[Socket, Socket]>,
      cancel: () => {
        for (const header of headers) this.#expected.delete(header)
        for (const socket of arrived) socket.destroy()
        this.#closeFormer()
      },
    }
  }

  /** Never rejects. */
  async close(): Promise<void> {
    this.#expected.clear()
    this.#closeFormer()
    this.#server?.close()
    for (const socket of this.#strangers) socket.destroy()
    await unlink(this.#path).catch(() => {})
  }

  async #listen(): Promise<void> {
    const server = createServer({ pauseOnConnect: true })
    server.on('connection', (socket) => this.#greet(socket))
    // A server removes at its end what it has bound, by name: one that is superseded, the socket of the next.
    const draft = draftOf(this.#path)
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(draft, () => {
        server.off('error', reject)
        resolve()
      })
    })
    server.on('error', () => {}) // One that could not be accepted hears of it.
    try {
      // Whatever the umask has left of it: to connect is to write.
      await chmod(draft, 0o600)
      await rename(draft, this.#path)
    } catch (error) {
      server.close()
      throw error
    }
    if (this.#server !== undefined) this.#former.push(this.#server)
    this.#server = server
    this.#file = await fileAt(this.#path)
    this.#closeFormer()
  }

  /** Unless somebody may have connected to them of whom nothing has been heard yet. */
  #closeFormer(): void {
    if (this.#expected.size > 0) return
    for (const server of this.#former.splice(0)) server.close()
  }

  #greet(socket: Socket): void {
    this.#strangers.add(socket)
    socket.on('error', () => {}) // A broken pipe is the end of the output, nothing more.
    socket.once('data', (chunk: Buffer) => {
      this.#strangers.delete(socket)
      // The header comes in one piece, as it was written; what the process wrote since may be behind it.
      const end = chunk.subarray(0, MAX_HEADER).indexOf(LINE_FEED) + 1
      const header = chunk.toString('latin1', 0, end)
      const take = this.#expected.get(header)
      if (take === undefined) {
        socket.destroy()
        return
      }
      this.#expected.delete(header)
      this.#closeFormer()
      socket.pause()
      if (end < chunk.length) socket.unshift(chunk.subarray(end))
      take(socket)
    })
    socket.resume()
  }
}

/** Where a socket is bound that is to be at `path`: what is there is replaced at once. */
export function draftOf(path: string): string {
  return join(dirname(path), `draft.${process.pid}`)
}
