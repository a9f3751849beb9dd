/** What must not happen, as the verdict names it. */
export const rules = [
  'affinity violations',
  'responses mixed between sessions',
  'cut answers taken as whole',
  'unexpected answers',
  'counts repeated or missing',
  'unreported losses',
  'double reports',
  'sessions started and not ended',
  'two sessions on one worker or id',
  'leases on sessions that are over',
  'waiters unsettled',
  'leases left',
  'more workers than max',
  'pool not back at min + warm',
  'processes left',
  'sockets left',
  'directories left',
  'uncaught errors',
  'growth',
] as const

export type Rule = (typeof rules)[number]

export interface Violation {
  readonly rule: Rule
  readonly text: string
  /** The last events before it. */
  readonly events: readonly string[]
}

const EVENTS_KEPT = 6_000
const EVENTS_SHOWN = 60

/** What happened: tallies, the last events, and what must not have happened. */
export class Journal {
  readonly counts = new Map<Rule, number>(rules.map((rule) => [rule, 0]))
  /** The first of each rule, with what led to them. */
  readonly violations: Violation[] = []
  readonly tallies = new Map<string, number>()
  readonly #events: string[] = []
  readonly #start = performance.now()

  note(text: string): void {
    this.#events.push(`${((performance.now() - this.#start) / 1000).toFixed(3)} ${text}`)
    if (this.#events.length > EVENTS_KEPT) this.#events.splice(0, EVENTS_KEPT / 2)
  }

  tally(name: string, by = 1): void {
    this.tallies.set(name, (this.tallies.get(name) ?? 0) + by)
  }

  sum(prefix: string): number {
    let sum = 0
    for (const [name, count] of this.tallies) if (name.startsWith(prefix)) sum += count
    return sum
  }

  /** @param about shows the last events that mention it, rather than the last of all. */
  violate(rule: Rule, text: string, about?: string): void {
    const count = (this.counts.get(rule) ?? 0) + 1
    this.counts.set(rule, count)
    this.note(`!!! ${rule}: ${text}`)
    if (count <= 3) {
      const events = about === undefined ? this.#events : this.#events.filter((line) => line.includes(about))
      this.violations.push({ rule, text, events: events.slice(-EVENTS_SHOWN) })
    }
  }
}
