import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { slicesOf } from './slices.ts'

/** What a client gets to take what the system still holds for it. */
const lingerTime = 10_000

/**
 * Ends a connection behind what is written, in stages (RFC 9112 §9.6): our end comes first, and what the client sends, which is nobody's any
 * more, is dropped until it ends, too, or for 10 seconds. To close at once, with bytes unread or still to come, is a reset, which takes
 * along what the client has not got yet.
 */
export function linger(socket: Socket): void {
  if (socket.writableEnded) return
  socket.end()
  const timer = setTimeout(() => socket.destroy(), lingerTime)
  socket.once('close', () => clearTimeout(timer))
}

/**
 * Has the connection of a request, of which more is to come than is wanted, end in stages.
 *
 * @returns how to end it behind the response.
 */
export function lingerWithin(req: IncomingMessage, res: ServerResponse): () => void {
  const { socket } = req
  const slices = slicesOf(socket)
  const destroySoon = socket.destroySoon.bind(socket)
  if (slices === undefined) {
    // Of a server that is not ours, nothing keeps the parser from going on to the next request but to close.
    return () => {
      req.pause()
      destroySoon()
    }
  }
  const end = () => {
    slices.drop()
    if (res.writableFinished) linger(socket)
    else res.once('finish', () => linger(socket))
  }
  // How Node closes a connection behind a response that says so.
  socket.destroySoon = end
  req.once('close', () => {
    socket.destroySoon = destroySoon
  })
  return end
}
