import type { Journal } from './_journal.ts'

/** The verdict, and what it is about, as a table. */
export function verdict(journal: Journal, daemons: number): string {
  const tally = (name: string) => journal.tallies.get(name) ?? 0
  const about: [string, number][] = [
    ['HTTP requests', tally('http request')],
    ['WebSockets', tally('socket')],
    ['WebSocket messages', tally('socket message')],
    ['answers', tally('answer')],
    ['refusals', journal.sum('refused: ')],
    ['cut by the gateway', journal.sum('http cut') + tally('socket cut')],
    ['given up by the client', tally('http aborted') + tally('socket silent')],
    ['leases without the gateway', tally('lease')],
    ['processes started', journal.sum('launch: ')],
    ['faults', journal.sum('fault: ')],
    ['sessions', tally('session')],
    ['losses reported', journal.sum('lost: ')],
    ['daemons ended by the harness', daemons],
  ]
  const rows = [...about, ...journal.counts]
  const width = Math.max(...rows.map(([name]) => name.length))
  const line = ([name, count]: readonly [string, number]) => `  ${name.padEnd(width)} ${String(count).padStart(8)}`
  return [...about.map(line), '  '.padEnd(width + 11, '─'), ...[...journal.counts].map(line)].join('\n')
}

/** Every tally there is. */
export function details(journal: Journal): string {
  return [...journal.tallies]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, count]) => `  ${name}: ${count}`)
    .join('\n')
}

/** What was violated, and the last events before it. */
export function violations(journal: Journal): string {
  return journal.violations
    .map(({ rule, text, events }) => `${rule}: ${text}\n${events.map((event) => `    ${event}`).join('\n')}`)
    .join('\n\n')
}
