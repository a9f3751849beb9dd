import fc from 'fast-check'
import { TestRunner } from 'vitest'

// That a property fails is all that a mutant's run has to find out.
fc.configureGlobal({ endOnFailure: true })

/** Loads nothing more once a test has failed: Vitest does not run the tests of the files that follow, but loads them. */
export default class MutationRunner extends TestRunner {
  #isOver = false

  override cancel(...reason: Parameters<TestRunner['cancel']>): void {
    this.#isOver = true
    super.cancel(...reason)
  }

  override importFile(...file: Parameters<TestRunner['importFile']>): unknown {
    return this.#isOver ? undefined : super.importFile(...file)
  }
}
