import fc from 'fast-check'

/**
 * Lets a property try what it can for so many milliseconds. fast-check's own limit lets go of the run that is under way, and takes
 * one that never ends for a success; this one waits for it, and leaves it to the time limit of the test.
 */
export function timeLimit<T>(milliseconds: number): fc.Plugin<T> {
  return () => {
    const end = Date.now() + milliseconds
    return { decorateRun: (run) => (value) => (Date.now() < end ? run(value) : new fc.PreconditionFailure(true)) }
  }
}
