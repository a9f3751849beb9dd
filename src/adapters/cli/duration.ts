/** Largest first, the order in which they are written. */
const UNITS = new Map([
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
  ['ms', 1],
])

const PARTS = new RegExp(`^${[...UNITS.keys()].map((unit) => `(?:(\\d+(?:\\.\\d+)?)${unit})?`).join('')}$`)

/**
 * Milliseconds of `500ms`, `5m` or `1h30m`, and parts of one; `0` needs no unit. `undefined` for anything else, bare numbers included:
 * herd's users think in seconds, the library counts in milliseconds, and a guess would be wrong for one of them.
 */
export function parseDuration(text: string): number | undefined {
  if (text === '0') return 0
  const counts = PARTS.exec(text)?.slice(1)
  if (text === '' || counts === undefined) return undefined
  const total = [...UNITS.values()].reduce((sum, size, i) => sum + size * Number(counts[i] ?? 0), 0)
  return Number.isFinite(total) ? total : undefined
}

/** The shortest exact spelling: `90_000` is `1m30s`. */
export function formatDuration(milliseconds: number): string {
  let rest = Math.round(milliseconds)
  let text = ''
  for (const [unit, size] of UNITS) {
    const count = Math.floor(rest / size)
    rest -= count * size
    if (count > 0) text += `${count}${unit}`
  }
  return text === '' ? '0' : text
}
