import type { Socket } from 'node:net'

const kNoticed = Symbol('corral.noticed')

type Noticed = Socket & { [kNoticed]?: true; readonly _handle?: { getpeername?: (address: object) => number } | null }

/**
 * Has a reset that passes for an end be what it is. Linux tells of a reset once: a write that comes first, such as that of a session
 * ticket of TLS 1.3, leaves nothing but an end to be read. Node.js then waits for that write for ever, and so does everything that is
 * written after it: neither a response nor the connection is ever over.
 */
export function noticeReset(socket: Noticed): void {
  if (socket[kNoticed] === true) return
  socket[kNoticed] = true
  socket.prependListener('end', onEnd)
}

function onEnd(this: Noticed): void {
  if (isReset(this)) this.destroy()
}

/** Whoever has only ended what it sends still has an address. Node.js would answer with the one it keeps. */
export function isReset({ _handle: handle }: Noticed): boolean {
  return (handle?.getpeername?.({}) ?? 0) !== 0
}

/**
 * Resets a connection, lest its end is taken for that of a body (RFC 9112 §8). That of TLS, too, where it should do to leave out the
 * `close_notify` (RFC 9112 §9.8), and many clients do not look. Through a unix socket nothing can tell.
 */
export function resetConnection(socket: Socket | null): void {
  if (socket === null) return
  // Node has no word for the connection beneath that of TLS, which refuses to be reset itself.
  const { _parent: beneath } = socket as { _parent?: Socket | null }
  if (isShuttingDown(socket)) {
    // Beneath TLS that may wait for a client that takes nothing.
    if (beneath != null) beneath.destroy()
    else socket.prependOnceListener('finish', () => reset(socket))
  } else {
    reset(beneath ?? socket)
  }
}

/** All is written, and the end is on its way. Until it is sent, libuv refuses a reset, and Node would never close the connection. */
function isShuttingDown(socket: Socket): boolean {
  return socket.writableEnded && !socket.writableFinished && socket.writableLength === 0
}

function reset(connection: Socket): void {
  try {
    connection.resetAndDestroy()
  } catch {
    // It is no TCP.
    connection.destroy()
  }
}
