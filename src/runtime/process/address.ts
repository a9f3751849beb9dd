import { join } from 'node:path'
import getPort from 'get-port'
import type { WorkerAddress } from '../backend.ts'
import type { Claim } from './claims.ts'

const HOST = '127.0.0.1'

/** `sun_path` less its final NUL. Beyond it Node 20 cuts the path off silently and listens somewhere else. */
const MAX_SOCKET_PATH = process.platform === 'linux' ? 107 : 103

/**
 * Ports of all workers of this process. get-port remembers a port for 15 to 30 seconds only, and a worker may take longer
 * than that to listen.
 */
const reserved = new Set<number>()

/** Where one worker has to listen, kept for it until it is released: only once nobody can listen there any more. */
export interface ReservedAddress extends Claim {
  readonly address: WorkerAddress
  /** Set also beside a socket, when the command uses `{{port}}` as well. */
  readonly port?: number
  readonly socket?: string
}

/** @param run where a unix socket goes: private, and new, so that no socket file of an earlier start is in it. */
export async function reserveAddress(uses: ReadonlySet<string>, run: string | undefined): Promise<ReservedAddress> {
  const socket = uses.has('socket') && run !== undefined ? join(run, 's') : undefined
  if (socket !== undefined) checkLength(socket)
  const port = socket === undefined || uses.has('port') ? await reservePort() : undefined
  const releaseNow = () => void (port !== undefined && reserved.delete(port))
  const claim = { release: async () => releaseNow(), releaseNow, ...(port !== undefined && { port }) }
  if (socket === undefined) return { ...claim, address: { host: HOST, port: port! } }
  return { ...claim, socket, address: { socketPath: socket } }
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
    `The path of the worker's unix socket, ${JSON.stringify(path)}, has ${length} bytes, and the system takes ` +
      `${MAX_SOCKET_PATH}: set the option stateDirectory, or TMPDIR, to a shorter directory`,
  )
}
