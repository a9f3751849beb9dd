import getPort from 'get-port'
import type { WorkerAddress } from '../backend.ts'
import type { Claim } from './claims.ts'
import type { PinnedSocket } from './pinned-socket.ts'
import type { SocketPlan } from './socket-plan.ts'

const HOST = '127.0.0.1'

/** `sun_path` less its final NUL. Beyond it Node 20 cuts the path off silently and listens somewhere else. */
export const MAX_SOCKET_PATH = process.platform === 'linux' ? 107 : 103

/**
 * Ports of all workers of this process. get-port remembers a port for 15 to 30 seconds only, and a worker may take longer
 * than that to listen.
 */
const reserved = new Set<number>()

/** Where one worker has to listen, kept for it until it is released: only once nobody can listen there any more. */
export interface ReservedAddress extends Claim {
  readonly address: WorkerAddress
  /** Set also beside a socket, when the command uses `{{port}}` as well. */
  readonly port: number | undefined
  readonly socket?: string
  /** See {@link SocketPlan.pin}. */
  readonly pin: PinnedSocket | undefined
}

/** @param plan where a unix socket goes: private, and new, so that no socket file of an earlier start is there. */
export async function reserveAddress(
  uses: ReadonlySet<string>,
  plan: SocketPlan | undefined,
): Promise<ReservedAddress> {
  if (plan === undefined) {
    const port = await reservePort()
    return { ...held(port), address: { host: HOST, port } }
  }
  const { path: socket, address: socketPath, pin } = plan
  for (const path of [socket, socketPath]) checkLength(path)
  const port = uses.has('port') ? await reservePort() : undefined
  return { ...held(port, pin), socket, address: { socketPath } }
}

function held(port: number | undefined, pin?: PinnedSocket) {
  const releaseNow = () => {
    if (port !== undefined) reserved.delete(port)
    pin?.releaseNow()
  }
  return { release: async () => releaseNow(), releaseNow, port, pin }
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
