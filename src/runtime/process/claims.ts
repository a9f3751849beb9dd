/** Something that is held for a worker. */
export interface Claim {
  /** Rejects when any of it is left. */
  release(): Promise<unknown>
  /** The part of it that can be done while this process exits. */
  releaseNow(): void
}

/** Everything that is held on this machine for one start of one worker. Released in the reverse order of taking. */
export class Claims implements Claim {
  readonly #claims: Claim[] = []
  #record: Claim | undefined

  /** Where all of it is written down: released last, and kept for a later start as long as any of it is left. */
  recordIn(record: Claim): void {
    this.#record = record
  }

  /** Whether a later start will find what is not released now. */
  get isRecorded(): boolean {
    return this.#record !== undefined
  }

  add(claim: Claim): void {
    this.#claims.push(claim)
  }

  /** Never rejects: what could not be released is told as a warning, and the rest is. */
  async release(): Promise<void> {
    const record = this.#record
    this.#record = undefined
    let isLeft = false
    for (const claim of this.#claims.splice(0).toReversed()) {
      try {
        await claim.release()
      } catch (error) {
        isLeft = true
        warn(record === undefined ? String(error) : `${String(error)}; the next start tries again`)
      }
    }
    if (!isLeft) await record?.release().catch((error: unknown) => warn(String(error)))
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

function warn(message: string): void {
  process.emitWarning(message, 'CorralWarning')
}
