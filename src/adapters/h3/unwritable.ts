import type { Socket } from 'node:net'

/** What a write comes to when the other end has closed. */
const closed: ReadonlySet<string | undefined> = new Set(['EPIPE', 'ECONNRESET'])

/**
 * Goes on reading when the other end takes no more: a worker may answer an upload that it does not want, and close (RFC 9112 §9.5).
 * Node destroys a socket at the first write that fails, with the answer that is still to be read. Here such writes come to nothing: the end
 * of the connection, or its error, is met behind whatever was sent before.
 */
export function readOnWhenUnwritable(socket: Socket): void {
  const write = socket._write.bind(socket)
  const writev = socket._writev?.bind(socket)
  socket._write = (chunk, encoding, callback) => write(chunk, encoding, unlessClosed(callback))
  if (writev) socket._writev = (chunks, callback) => writev(chunks, unlessClosed(callback))
}

type Callback = (error?: Error | null) => void

function unlessClosed(callback: Callback): Callback {
  return (error) => callback(closed.has((error as NodeJS.ErrnoException | undefined)?.code) ? null : error)
}
