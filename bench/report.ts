import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { arch, cpus, release, totalmem } from 'node:os'
import type { Samples, Sample } from './rounds.ts'
import { median, medianRatio } from './statistics.ts'

/** A figure that the project has set itself. */
export interface Target {
  readonly what: string
  /** Such as `≤ 80 µs`. */
  readonly reach: string
  readonly measured: string
  readonly met: boolean
}

/** What a section has to say: Markdown, and figures beside their targets. */
export interface Findings {
  readonly targets: readonly Target[]
  readonly text: string
}

type Cell = string | number

export function table(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const line = (cells: readonly Cell[]) => `| ${cells.join(' | ')} |`
  const rule = head.map((_, column) => (column === 0 ? '---' : '--:'))
  return [line(head), line(rule), ...rows.map(line)].join('\n')
}

/** Three significant digits, which is more than a benchmark is good for. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (Math.abs(value) >= 1_000) return Math.round(value).toLocaleString('en')
  return String(Number(value.toPrecision(3)))
}

/** @param limit a comparison with a number, such as `≤ 80`. */
export function target(what: string, limit: `${'≤' | '≥'} ${number}`, value: number, unit = ''): Target {
  const bound = Number(limit.slice(2))
  const met = limit.startsWith('≤') ? value <= bound : value >= bound
  return { what, reach: limit + unit, measured: figure(value) + unit, met }
}

/** The table of a load: the first subject is ours. */
export function loadTable(samples: Samples<Sample>): string {
  const [ours = []] = samples.values()
  const cpu = ours.map((sample) => sample.cpu)
  const head = ['', 'CPU µs/op', 'ours ÷', 'op/s', 'p50 µs', 'p90 µs', 'p99 µs', 'peak RSS MiB']
  const rows = [...samples].map(([name, taken]) => {
    const middle = (read: (sample: Sample) => number) => figure(median(taken.map(read)))
    return [
      name,
      middle((sample) => sample.cpu),
      figure(ratioTo(samples, name, cpu)),
      middle((sample) => sample.operations / sample.seconds),
      middle((sample) => sample.p50),
      middle((sample) => sample.p90),
      middle((sample) => sample.p99),
      middle((sample) => sample.memory / 2 ** 20),
    ]
  })
  return table(head, rows)
}

/** Processor time of one subject by that of another. */
export function cpuRatio(samples: Samples<Sample>, ours: string, other: string): number {
  return ratioTo(samples, other, samples.get(ours)?.map(({ cpu }) => cpu) ?? [])
}

function ratioTo(samples: Samples<Sample>, name: string, cpu: readonly number[]): number {
  return medianRatio(cpu, samples.get(name)?.map((sample) => sample.cpu) ?? [])
}

export function sectionText(title: string, note: string, { targets, text }: Findings): string {
  const rows = targets.map(({ what, reach, measured, met }) => [what, reach, measured, met ? 'yes' : '**no**'])
  const figures = rows.length === 0 ? '' : `${table(['target', 'reach', 'measured', 'reached'], rows)}\n\n`
  return `## ${title}\n\n${note}\n\n${figures}${text}\n`
}

/** Where and of what: one line. */
export function circumstances(rounds: number): string {
  const git = (...args: string[]) => execFileSync('git', args, { encoding: 'utf8' }).trim()
  const commit =
    git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain', 'src') === '' ? '' : ' with changes')
  const [{ model } = { model: 'unknown processor' }, ...others] = cpus()
  const memory = Math.round(totalmem() / 2 ** 30)
  const machine = `${others.length + 1} × ${model.trim()}, ${memory} GiB, Linux ${release()} ${arch()}`
  return `${machine}; Node.js ${process.version}; commit ${commit}; ${new Date().toISOString().slice(0, 10)}; ${rounds} rounds.`
}

/** Puts sections into the file of results, in place of what they said before. */
export function writeResults(file: string, order: readonly string[], sections: ReadonlyMap<string, string>): void {
  const known = existsSync(file)
    ? readFileSync(file, 'utf8')
        .split(/^(?=## )/m)
        .slice(1)
    : []
  const all = new Map(known.map((text) => [/^## (.+)$/m.exec(text)?.[1] ?? '', `${text.trimEnd()}\n`]))
  for (const [name, text] of sections) all.set(name, text)
  const texts = order.flatMap((name) => all.get(name) ?? [])
  writeFileSync(file, `${preface}\n${texts.join('\n')}`)
}

const preface = `# Results

Written by \`npm run bench\`; [docs/performance.md](../docs/performance.md) says what the sections measure and what the figures mean. Medians
of rounds in which all subjects take turns. CPU is that of the process under test alone. "ours ÷" is the first row's CPU divided by that of the
row: below 1 is better than that peer.
`
