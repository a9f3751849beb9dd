import { Server, Socket } from 'node:net'

/**
 * Whether the client had reset its connection before anybody looked at who it is: TCP forgets the address with the reset, but
 * keeps what was sent before it. Such a request is nobody's. Without this it would pass for one that has no address to begin
 * with, as those on unix sockets, whom their permissions stand for.
 */
export function isVanished(socket: Socket & { readonly server?: unknown }): boolean {
  // Also asks for the address: Node keeps it from here on, whatever becomes of the connection.
  if (socket.remoteAddress !== undefined) return false
  return socket instanceof Socket && !isUnix(socket.server)
}

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

function isUnix(server: unknown): boolean {
  return server instanceof Server && typeof server.address() === 'string'
}
