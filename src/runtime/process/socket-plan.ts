import { join } from 'node:path'
import { SOCKET_DIRECTORY } from './isolation/inside.ts'
import type { IsolationLevel } from './isolation/options.ts'
import type { Place } from './place.ts'
import { PinnedSocket } from './pinned-socket.ts'

/** Where the unix socket of one worker is. */
export interface SocketPlan {
  /** As the worker sees it. */
  readonly path: string
  /** As we connect to it. */
  readonly address: string
  /** By which `address` leads to the socket, and to nothing else that the worker may put in its place. */
  readonly pin: PinnedSocket | undefined
}

export function planSocket({ directory: { root, run }, uid }: Place, level: IsolationLevel): SocketPlan {
  const path = join(run ?? SOCKET_DIRECTORY, 's')
  const owner = uid ?? process.geteuid?.()
  // At the levels below, a worker has our rights, and can connect to what it likes itself.
  if (level !== 'full' || owner === undefined) return { path, address: path, pin: undefined }
  const address = join(root, 's')
  const view = run === undefined ? 'sandbox' : 'own'
  return { path, address, pin: new PinnedSocket({ path, view, link: address, owner }) }
}
