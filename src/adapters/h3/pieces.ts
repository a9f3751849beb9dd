import type { IncomingMessage } from 'node:http'
import type { TurnBudget } from '../clients/turn-budget.ts'

/** Smaller pieces than half of that are joined to such ones. */
const size = 2 * 1024

/**
 * Joins the small pieces of a body that come in one turn of the event loop. Chunks can be as small as a byte, and Node makes a buffer of
 * each: as many as it takes to fill a stream, which counts bytes, are some MiB for each request that waits.
 */
export function joinPieces(req: IncomingMessage, budget: TurnBudget): void {
  // Only chunks come in pieces; the frames of HTTP/2 are made otherwise. A pipelined request comes here twice.
  if (req.headers['transfer-encoding'] === undefined || Object.hasOwn(req, 'push')) return
  const push = req.push.bind(req)
  let joined: Buffer | undefined
  let length = 0
  const pass = () => {
    if (joined === undefined) return
    const piece = joined.subarray(0, length)
    joined = undefined
    length = 0
    // The parser has been told that there is room.
    if (!push(piece) && !req.destroyed) req.socket.pause()
  }
  req.push = (piece: Buffer | null) => {
    if (piece === null || piece.length > size / 2) {
      pass()
      return push(piece)
    }
    if (length + piece.length > size) pass()
    if (joined === undefined) {
      joined = Buffer.allocUnsafe(size)
      setImmediate(pass)
    } else {
      budget.spend(piece.length)
    }
    length += piece.copy(joined, length)
    return true
  }
}
