import type { WebSocket } from 'ws'
import { body, KiB } from './content.ts'

/** Each message of a stream but for its first eight bytes, which are its number. */
export const message = body(64 * KiB)

/** Sends messages of 64 KiB without end, as fast as the other side takes them. */
export function streamMessages(socket: WebSocket): void {
  let sent = 0
  const next = () => {
    const numbered = Buffer.from(message)
    numbered.writeDoubleBE(sent++)
    // Called once the bytes are written: a few are on their way at a time.
    socket.send(numbered, (error) => {
      if (!error) next()
    })
  }
  for (let i = 0; i < 4; i++) next()
}
