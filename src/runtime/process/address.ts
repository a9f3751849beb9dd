import { rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import getPort from 'get-port'
import type { WorkerAddress } from '../backend.ts'

const HOST = '127.0.0.1'

/** `sun_path` less its final NUL. Beyond it Node 20 cuts the path off silently and listens somewhere else. */
const MAX_SOCKET_PATH = process.platform === 'linux' ? 107 : 103

/**
 * Ports of all workers of this process. get-port remembers a port for 15 to 30 seconds only, and a worker may take longer
 * than that to listen.
 */
const reserved = new Set<number>()

/** Where one worker has to listen, kept for it until it is gone. */
export interface ReservedAddress {
  readonly address: WorkerAddress
  /** Set also beside a socket, when the command uses `{{port}}` as well. */
  readonly port?: number
  readonly socket?: string
  /** Gives the port back and removes the socket. Only once nobody can listen there any more. */
  release(): Promise<void>
  /** The part of it that can be done while the parent process exits. */
  releaseSync(): void
}

export async function reserveAddress(uses: ReadonlySet<string>): Promise<ReservedAddress> {
  if (!uses.has('socket')) {
    const port = await reservePort()
    const release = () => reserved.delete(port)
    return { address: { host: HOST, port }, port, release: async () => void release(), releaseSync: release }
  }
  // A directory per start: private (0700), and no socket file of an earlier one can be in it.
  const directory = await mkdtemp(join(tmpdir(), 'corral-'))
  const removal = { recursive: true, force: true }
  try {
    const socket = join(directory, 's')
    checkLength(socket)
    const port = uses.has('port') ? await reservePort() : undefined
    const release = () => port !== undefined && reserved.delete(port)
    return {
      address: { socketPath: socket },
      socket,
      ...(port !== undefined && { port }),
      release: () => rm(directory, removal).finally(release),
      releaseSync: () => rmSync(directory, removal),
    }
  } catch (error) {
    await rm(directory, removal)
    throw error
  }
}

async function reservePort(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = await getPort({ host: HOST })
    if (reserved.has(port)) continue
    reserved.add(port)
    return port
  }
  throw new Error(`No free TCP port was found on ${HOST}: ${reserved.size} are held by workers`)
}

function checkLength(path: string): void {
  const length = Buffer.byteLength(path)
  if (length <= MAX_SOCKET_PATH) return
  throw new Error(
    `The path of the worker's unix socket has ${length} bytes, the system takes ${MAX_SOCKET_PATH}: set TMPDIR to a ` +
      `shorter directory than "${tmpdir()}"`,
  )
}
