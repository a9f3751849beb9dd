import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmod, rename, rm } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { basename, dirname, join } from 'node:path'
import { fileAt } from '../file.ts'
import { namesIn } from './names.ts'

/** Sockets of presence are called so, with a name of their own behind it. */
const PREFIX = 'up.'
/** What connecting comes to where nobody listens any more. */
const ABSENT: ReadonlySet<string | undefined> = new Set(['ECONNREFUSED', 'ENOENT'])

/** Those of this process, by path. */
const servers = new Map<string, { readonly server: Server; readonly file: string | undefined }>()

/** A path in `directory` that nobody else takes. */
export function presencePath(directory: string): string {
  return join(directory, `${PREFIX}${randomBytes(4).toString('hex')}`)
}

/**
 * Listens at `path` for as long as this process lives, or until {@link withdraw}. Whoever connects learns by that alone that
 * it does, also from another PID namespace, where its id says nothing. Once more where somebody has removed the socket.
 */
export async function announce(path: string): Promise<void> {
  servers.get(path)?.server.close()
  const server = createServer((socket) => socket.destroy()).unref()
  // Bound elsewhere: what is there by the name of one has listened from the beginning, and is dead when it does not answer.
  const draft = join(dirname(path), `new.${basename(path).slice(PREFIX.length)}`)
  // Not by the primary process of a cluster, which may outlive this one.
  server.listen({ path: draft, exclusive: true })
  await once(server, 'listening')
  server.on('error', () => {}) // One that could not be accepted has its answer.
  try {
    // Whatever the umask has left of it: to connect is to write.
    await chmod(draft, 0o600)
    await rename(draft, path)
  } catch (error) {
    server.close()
    throw error
  }
  servers.set(path, { server, file: await fileAt(path) })
}

/** Whether the socket at `path` is the one that this process listens at, and not a copy of it. */
export async function isAnnounced(path: string): Promise<boolean> {
  const file = await fileAt(path)
  return file !== undefined && servers.get(path)?.file === file
}

/** Or removes what another process has left of it, which is gone. */
export async function withdraw(path: string): Promise<void> {
  servers.get(path)?.server.close()
  servers.delete(path)
  await rm(path, { force: true })
}

/** @returns the path at which somebody answers, other than at `own`. */
export async function findPresent(directory: string, own?: string): Promise<string | undefined> {
  const others = (await listPresences(directory)).filter((path) => path !== own)
  const answers = await Promise.all(others.map(isPresent))
  return others.find((_, index) => answers[index])
}

/** Removes the sockets of the dead. */
export async function removeAbsent(directory: string): Promise<void> {
  const remove = async (path: string) => {
    if (!(await isPresent(path))) await rm(path, { force: true })
  }
  await Promise.all((await listPresences(directory)).map(remove))
}

async function listPresences(directory: string): Promise<string[]> {
  const names = await namesIn(directory)
  return names.filter((name) => name.startsWith(PREFIX)).map((name) => join(directory, name))
}

/** Whatever else keeps it from answering, such as a full queue, is no sign of death. */
async function isPresent(path: string): Promise<boolean> {
  const socket = connect(path)
  try {
    await once(socket, 'connect')
    return true
  } catch (error) {
    return !ABSENT.has((error as NodeJS.ErrnoException).code)
  } finally {
    socket.destroy()
  }
}
