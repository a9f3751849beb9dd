import { closeSync, openSync } from 'node:fs'
import { childrenOf } from '../_proc.ts'

/**
 * Where a worker whose directory is limited has its socket: in memory of that size, and in no directory that it could move
 * or replace. It sees this path as it is, we come by {@link openInside}.
 */
export const SOCKET_DIRECTORY = '/dev/corral'

/**
 * Opens what is at a path inside of a sandbox, as everything in it sees it. As root, that takes CAP_SYS_PTRACE.
 *
 * @param wrapper id of the bubblewrap that the sandbox was made by.
 * @param path no directory on the way may be one that the worker can replace: a link would be followed from our own root.
 * @throws with `ENOENT` as its code while the sandbox is not made, or when it is gone.
 */
export function openInside(wrapper: number, path: string, flags: number): number {
  const [init] = childrenOf(wrapper)
  if (init === undefined) throw noSandbox(wrapper)
  const fd = openSync(`/proc/${init}/root${path}`, flags)
  if (childrenOf(wrapper)[0] === init) return fd
  // It ended in between: its id may have been another's already.
  closeSync(fd)
  throw noSandbox(wrapper)
}

function noSandbox(wrapper: number): Error {
  return Object.assign(new Error(`There is no sandbox of process ${wrapper}`), { code: 'ENOENT' })
}
