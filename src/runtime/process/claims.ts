/** Something that is held for a worker. */
export interface Claim {
  release(): Promise<unknown>
  /** The part of it that can be done while this process exits. */
  releaseNow(): void
}

/** Everything that is held on this machine for one start of one worker. Released in the reverse order of taking. */
export class Claims implements Claim {
  readonly #claims: Claim[] = []

  add(claim: Claim): void {
    this.#claims.push(claim)
  }

  /** Never rejects: what could not be released is told as a warning, and the rest is. */
  async release(): Promise<void> {
    for (const claim of this.#claims.splice(0).toReversed()) {
      await claim.release().catch((error: unknown) => process.emitWarning(String(error), 'CorralWarning'))
    }
  }

  releaseNow(): void {
    for (const claim of this.#claims.toReversed()) {
      try {
        claim.releaseNow()
      } catch {
        // The others still have to be, and nobody is left to be told.
      }
    }
  }
}
