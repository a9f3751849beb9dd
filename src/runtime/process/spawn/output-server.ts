import { createServer, type Server, type Socket } from 'node:net'
import { outputHeader } from './protocol.ts'

const LINE_FEED = 0x0a
const MAX_HEADER = 128

/**
 * Where the output of processes arrives that another process has started: each stream is a connection of its own, which
 * that process hands to the worker. Nothing of it is copied on the way.
 */
export class OutputServer {
  readonly #server: Server
  readonly #expected = new Map<string, (socket: Socket) => void>()
  /** Connections that have not said yet whose they are. */
  readonly #strangers = new Set<Socket>()

  private constructor(server: Server) {
    this.#server = server
    server.on('connection', (socket) => this.#greet(socket))
  }

  /** @param path of its unix socket, in a directory for this user alone. */
  static async listen(path: string): Promise<OutputServer> {
    const server = createServer({ pauseOnConnect: true })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(path, () => {
        server.off('error', reject)
        resolve()
      })
    })
    return new OutputServer(server)
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
      },
    }
  }

  close(): void {
    this.#server.close()
    for (const socket of this.#strangers) socket.destroy()
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
      socket.pause()
      if (end < chunk.length) socket.unshift(chunk.subarray(end))
      take(socket)
    })
    socket.resume()
  }
}
