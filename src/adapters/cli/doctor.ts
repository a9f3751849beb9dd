import { type Diagnosis, diagnose } from '../../index.ts'
import { UsageError } from './given.ts'
import { print } from './print.ts'

/**
 * Runs `corral doctor`: tries out every level of isolation and every limit, and prints what is there and why not.
 *
 * @returns the exit status: 0 when everything is available, else 1.
 * @throws {UsageError} for any argument but `--json`.
 */
export async function doctor(argv: readonly string[]): Promise<number> {
  const unknown = argv.find((argument) => argument !== '--json')
  if (unknown !== undefined) throw new UsageError(`Unexpected ${JSON.stringify(unknown)}`)
  const results = await diagnose()
  await print(argv.includes('--json') ? `${JSON.stringify(results, undefined, 2)}\n` : toTable(results))
  return results.every(({ status }) => status === 'available') ? 0 : 1
}

/** A line each, and below it what to do about it. */
export function toTable(results: readonly Diagnosis[]): string {
  const width = Math.max(...results.map(({ probe }) => probe.length))
  const lines = results.flatMap(({ probe, status, detail, fix }) => [
    `${probe.padEnd(width)}  ${status === 'available' ? 'yes' : 'no '}  ${detail}`,
    ...(fix === undefined ? [] : [`${' '.repeat(width + 7)}to mend it: ${fix}`]),
  ])
  return `${lines.join('\n')}\n`
}
