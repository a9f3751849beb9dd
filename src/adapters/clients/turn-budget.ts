/** Something that comes in pieces, and waits for its turn. */
export interface Flow {
  /** May pass on its next piece. */
  goOn(): void
}

/** How much one turn of the event loop may do. A piece of a flow is 64 KiB at most. */
interface Share {
  /** Bytes of flows that are passed on. */
  readonly bytes: number
  /** Flows that go on with it. */
  readonly flows: number
  /** Requests that begin. */
  readonly requests: number
}

const usual: Share = { bytes: 1024 * 1024, flows: 16, requests: 64 }

/** Of a turn that more connections may wait for, or that comes after one that was far too long: some tenths of a millisecond. */
const crowded: Share = { bytes: 64 * 1024, flows: 1, requests: 8 }

/** Bytes beyond which a turn was far too long. */
const tooMany = 4 * usual.bytes

/** What it takes to pass on a piece, however small, is what it takes for so many bytes. */
const smallestPiece = 1024

/**
 * Keeps the turns of the event loop short: flows that have more take turns, and so do requests, of which one connection can bring some
 * thousand at once. Node accepts one connection a turn (libuv since 1.45), so that some hundred busy flows, each with a piece in every
 * turn, would keep everybody who connects waiting for seconds. So would a MiB of flows, or some dozens of requests, in each of the turns
 * that a queue of some hundred connections takes: while those are accepted, turns are shorter still.
 */
export class TurnBudget {
  readonly #maxRequests: number
  #share = usual
  #bytes = 0
  #requests = 0
  #hasAccepted = false
  #isCounting = false
  #turn = 0
  readonly #held = new Set<Flow>()
  readonly #deferred: (() => void)[] = []

  /** @param maxRequests that may begin in a turn, where one is more work than for the gateway, which only passes it on. */
  constructor(maxRequests = usual.requests) {
    this.#maxRequests = maxRequests
  }

  /** The number of this turn, of those in which anything was counted. */
  now(): number {
    this.#count()
    return this.#turn
  }

  /** Whether all of this turn's bytes are used up: who has more is to {@link hold}. */
  get isSpent(): boolean {
    return this.#bytes >= this.#share.bytes
  }

  /** Counts a piece that is passed on. */
  spend(bytes: number): void {
    this.#bytes += Math.max(bytes, smallestPiece)
    this.#count()
  }

  /** Has a flow go on in a later turn, once, after those that wait already. */
  hold(flow: Flow): void {
    this.#held.add(flow)
    this.#count()
  }

  /** A connection was accepted: where that one was, more may wait, each for a turn of its own. */
  accepted(): void {
    this.#share = crowded
    this.#hasAccepted = true
    this.#count()
  }

  /** Counts a request, if it may begin in this turn: else it is to {@link defer} that. */
  mayBegin(): boolean {
    this.#count()
    return this.#requests++ < this.#most()
  }

  /** Has a request begin in a later turn, after those that wait already. */
  defer(begin: () => void): void {
    this.#deferred.push(begin)
  }

  /** Requests that may begin in this turn. */
  #most(): number {
    return Math.min(this.#share.requests, this.#maxRequests)
  }

  #count(): void {
    if (this.#isCounting) return
    this.#isCounting = true
    setImmediate(this.#next)
  }

  readonly #next = (): void => {
    const isShort = this.#hasAccepted || this.#bytes > tooMany
    this.#share = isShort ? crowded : usual
    this.#turn++
    this.#bytes = 0
    this.#requests = 0
    this.#isCounting = isShort || this.#held.size > 0 || this.#deferred.length > 0
    this.#hasAccepted = false
    if (!this.#isCounting) return
    setImmediate(this.#next)
    const begun = this.#deferred.splice(0, this.#most())
    this.#requests = begun.length
    for (const begin of begun) begin()
    let left = Math.min(this.#share.flows, this.#held.size)
    // One that is held again on the spot comes after all others.
    for (const flow of this.#held) {
      if (left-- === 0) break
      this.#held.delete(flow)
      flow.goOn()
    }
  }
}
