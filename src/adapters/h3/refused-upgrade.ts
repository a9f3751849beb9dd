import type { IncomingMessage, ServerResponse } from 'node:http'
import { errors } from 'undici'
import type { Sender } from '../clients/send-limit.ts'
import type { Flow } from '../clients/turn-budget.ts'
import type { Core } from './core.ts'
import { Refusal } from './problem.ts'

interface Listeners {
  readonly sender: Sender
  /** Told of the size of each piece of the body. */
  readonly onPiece: (bytes: number) => void
  readonly onEnd: () => void
  /** The answer breaks off. */
  readonly onCut: (cause: unknown) => void
}

/** Passes on what follows the head of an answer that is no upgrade, among the bodies of all others, until either side ends. */
export function relayRefusal(core: Core, answer: IncomingMessage, res: ServerResponse, listeners: Listeners): void {
  const { sender, onPiece, onEnd, onCut } = listeners
  const { turnBudget, sendLimit, settings } = core
  const flow: Flow = { goOn: () => void answer.resume() }
  answer.on('data', (chunk: Buffer) => {
    onPiece(chunk.length)
    turnBudget.spend(chunk.length)
    const mayGoOn = res.write(chunk)
    if (mayGoOn && !turnBudget.isSpent) return
    answer.pause()
    if (mayGoOn) turnBudget.hold(flow)
    else sendLimit.add(sender)
  })
  res.on('drain', () => {
    if (turnBudget.isSpent) turnBudget.hold(flow)
    else answer.resume()
  })
  answer.on('end', onEnd)
  answer.on('error', onCut)
  res.on('close', () => answer.destroy())
  answer.setTimeout(settings.upstream.bodyTimeout, () => {
    // Whom the client holds back is not to blame.
    if (!answer.isPaused()) onCut(new Refusal('UPSTREAM_TIMEOUT', { cause: new errors.BodyTimeoutError() }))
  })
  // The head does not wait for a body that may come late.
  process.nextTick(() => res.flushHeaders())
}
