/** What the process holds at one rest; memory in MiB. */
export interface Sample {
  readonly rss: number
  readonly heap: number
  readonly descriptors: number
  readonly handles: number
}

/** What may be more at the end than at the beginning: a share of it, and so much. */
const bounds: Readonly<Record<keyof Sample, { share: number; plus: number }>> = {
  rss: { share: 0.25, plus: 40 },
  heap: { share: 0.2, plus: 6 },
  descriptors: { share: 0, plus: 4 },
  handles: { share: 0, plus: 4 },
}

/**
 * Compares the medians of the first and of the last quarter. The first sample is left out: caches fill and code is compiled
 * until then.
 *
 * @returns what grew, one line each.
 */
export function findGrowth(all: readonly Sample[]): string[] {
  const samples = all.slice(1)
  if (samples.length < 2) return []
  const quarter = Math.max(1, Math.floor(samples.length / 4))
  return (Object.keys(bounds) as (keyof Sample)[]).flatMap((name) => {
    const first = median(samples.slice(0, quarter).map((sample) => sample[name]))
    const last = median(samples.slice(-quarter).map((sample) => sample[name]))
    const { share, plus } = bounds[name]
    return last > first * (1 + share) + plus ? [`${name}: from ${first.toFixed(1)} to ${last.toFixed(1)}`] : []
  })
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}
