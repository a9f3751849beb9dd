import type { Pool } from 'corral'
import fc from 'fast-check'
import { afterAll } from 'vitest'
import { timeLimit } from '../support/time-limit.ts'

/** `CORRAL_DEEP_MS` makes the property tests run for so long, instead of for a number of sequences. */
const time = Number(process.env['CORRAL_DEEP_MS'] ?? 0)
/** `CORRAL_SEED` and `CORRAL_PATH` replay a failure. */
const { CORRAL_SEED: seed, CORRAL_PATH: path } = process.env

/** Counts what a property test has seen, and says so at the end of a deep run. */
export class Tally {
  readonly timeout = Math.max(120_000, 2 * time)
  commands = 0
  readonly #name: string
  readonly #states = new Set<string>()
  #sequences = 0

  constructor(name: string) {
    this.#name = name
    afterAll(() => {
      if (time > 0) process.stdout.write(`${this.summary()}\n`)
    })
  }

  /** How often fast-check runs: `runs` times, or for the time that was asked for. */
  parameters<T>(runs: number): fc.Parameters<T> {
    return {
      ...(time > 0 ? { numRuns: Number.MAX_SAFE_INTEGER, plugins: [timeLimit(time)] } : { numRuns: runs }),
      ...(seed !== undefined && { seed: Number(seed) }),
      ...(path !== undefined && { path, endOnFailure: true }),
      reporter: (details) => {
        if (!details.failed) return
        const replay = `CORRAL_SEED=${details.seed} CORRAL_PATH='${details.counterexamplePath}'`
        throw new Error(
          `${fc.defaultReportMessage(details)}\n\nReplay it:\n${replay} npx vitest run test/property -t '${this.#name}'`,
          { cause: details.errorInstance },
        )
      },
    }
  }

  /** The least that a whole run must have tried; a replay tries one sequence. */
  atLeast(commands: number): number {
    return path === undefined ? commands : 1
  }

  step(pool: Pool): void {
    this.commands++
    const { value, children } = pool.actor.getSnapshot()
    const workers = Object.values(children).map((child) => JSON.stringify(child?.getSnapshot().value))
    this.#states.add(JSON.stringify([value, workers.toSorted()]))
  }

  sequence(): void {
    this.#sequences++
  }

  summary(): string {
    return `${this.#name}: ${this.#sequences} sequences, ${this.commands} commands, ${this.#states.size} distinct chart states`
  }
}
