/** Something that comes in pieces, and waits for its turn. */
export interface Flow {
  /** May pass on its next piece. */
  goOn(): void
}

/** Bytes of flows that are passed on in one turn of the event loop. */
const budget = 1024 * 1024

/** Flows that go on with a new turn: a piece is 64 KiB at most. */
const flowsPerTurn = 16

/**
 * Keeps the turns of the event loop short while much is streamed: flows that have more take turns. Node accepts one connection a turn
 * (libuv since 1.45), so that some hundred busy flows, each with a piece in every turn, would keep everybody who connects waiting
 * for seconds.
 */
export class TurnBudget {
  #passed = 0
  #isCounting = false
  readonly #held = new Set<Flow>()

  /** Whether all of this turn is used up: who has more is to {@link hold}. */
  get isSpent(): boolean {
    return this.#passed >= budget
  }

  /** Counts what is passed on. */
  spend(bytes: number): void {
    this.#passed += bytes
    if (this.#isCounting) return
    this.#isCounting = true
    setImmediate(this.#next)
  }

  /** Has a flow go on in a later turn, once, after those that wait already. */
  hold(flow: Flow): void {
    this.#held.add(flow)
  }

  readonly #next = (): void => {
    this.#passed = 0
    this.#isCounting = this.#held.size > 0
    if (!this.#isCounting) return
    setImmediate(this.#next)
    let left = Math.min(flowsPerTurn, this.#held.size)
    // One that is held again on the spot comes after all others.
    for (const flow of this.#held) {
      if (left-- === 0) break
      this.#held.delete(flow)
      flow.goOn()
    }
  }
}
