import { execFile, spawnSync } from 'node:child_process'
import { resolve } from 'node:path'
import { promisify } from 'node:util'
import { KiB, sizes } from './content.ts'
import type { Child } from './child.ts'
import type { answers as generatorAnswers } from './generator.ts'

export type Generator = Child<typeof generatorAnswers>

/** What clients do, all of them, for a time. */
export interface Load {
  readonly port: number
  readonly base: string
  readonly path: keyof typeof sizes
  readonly method: 'GET' | 'POST'
  readonly connections: number
  readonly sessions: readonly string[]
  readonly seconds: number
}

/** What came of it. Latencies in microseconds. */
export interface Outcome {
  readonly operations: number
  readonly seconds: number
  readonly p50: number
  readonly p90: number
  readonly p99: number
}

/** From the repository's folder, where npm runs its scripts. */
const script = resolve('bench/wrk.lua')

/** wrk costs the machine least. A process of our own is there without it, for bodies that it would have to copy, and for less than its second. */
export const hasWrk = spawnSync('wrk', ['--version']).error === undefined

/** @throws when an answer is wrong or missing. */
export async function run(load: Load, generator: Generator): Promise<Outcome> {
  const isApt = load.method === 'GET' && sizes[load.path] <= 64 * KiB && load.seconds >= 1
  if (hasWrk && isApt) return runWrk(load)
  return generator.ask('http', load)
}

async function runWrk({ port, base, path, connections, sessions, seconds }: Load): Promise<Outcome> {
  const url = `http://127.0.0.1:${port}${base}${path}`
  const options = ['-t1', `-c${connections}`, `-d${Math.ceil(seconds)}s`, '--timeout=30s', '-s', script]
  const { stdout } = await promisify(execFile)('wrk', [...options, url, '--', String(sizes[path]), sessions.join(',')])
  const { wrong, example, failed, ...outcome } = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Outcome & {
    wrong: number
    example: string
    failed: number
  }
  if (wrong > 0) throw new Error(`${url}: ${wrong} of ${outcome.operations} answers are wrong: ${example}`)
  if (failed > 0) throw new Error(`${url}: ${failed} answers are missing`)
  if (outcome.operations === 0) throw new Error(`${url}: no answer`)
  return outcome
}
