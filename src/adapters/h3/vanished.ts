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

function isUnix(server: unknown): boolean {
  return server instanceof Server && typeof server.address() === 'string'
}
