import { type ChildProcess, spawn } from 'node:child_process'
import { on } from 'node:events'
import { createInterface } from 'node:readline'
import { afterEach } from 'vitest'
import { root, usesBuild } from '../../_build.ts'
import { type Fixture, fixtureMark, fixturePath } from '../../_processes.ts'

const main = `${root}dist/adapters/cli/main.js`

/** A line of `--json`. */
export type Line = { readonly type: string } & Readonly<Record<string, unknown>>

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** `corral` as a process of its own. */
export interface Cli {
  readonly child: ChildProcess
  readonly exit: Promise<Exit>
  /** Resolves to the first line, already printed or to come, that has the type and the fields. Rejects at the exit. */
  line(type: string, fields?: Readonly<Record<string, unknown>>): Promise<Line>
  /** The same for output that is not JSON. */
  text(part: string): Promise<string>
  kill(signal: NodeJS.Signals): void
}

const running = new Set<ChildProcess>()

/** Builds the command first, and kills what a failed test has left. Call it once, at the top. */
export function usesCli(): void {
  usesBuild()
  afterEach(() => {
    for (const child of running) child.kill('SIGKILL')
  })
}

/** Starts `corral`; `nodeArgs` are for Node itself, `env` is what it gets beside the environment of the test. */
export function corral(args: readonly string[], nodeArgs: readonly string[] = [], env: NodeJS.ProcessEnv = {}): Cli {
  const child = spawn(process.execPath, [...nodeArgs, main, ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  })
  running.add(child)
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (stdout += chunk))
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk))
  const exit = new Promise<Exit>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => {
      running.delete(child)
      resolve({ code, signal, stdout, stderr })
    })
  })
  const reader = createInterface(child.stdout)
  const lines: string[] = []
  reader.on('line', (line) => lines.push(line))

  async function find(matches: (line: string) => boolean, what: string): Promise<string> {
    const known = lines.find(matches)
    if (known !== undefined) return known
    for await (const [line] of on(reader, 'line', { close: ['close'] }) as AsyncIterable<[string]>) {
      if (matches(line)) return line
    }
    throw new Error(`corral ended without ${what}:\n${stdout}${stderr}`)
  }

  return {
    child,
    exit,
    line: async (type, fields = {}) => {
      const wanted = Object.entries({ type, ...fields })
      const matches = (text: string) => {
        const line = toLine(text)
        return line !== undefined && wanted.every(([key, value]) => line[key] === value)
      }
      return toLine(await find(matches, JSON.stringify({ type, ...fields }))) as Line
    },
    text: (part) => find((line) => line.includes(part), JSON.stringify(part)),
    kill: (signal) => child.kill(signal),
  }
}

/** `corral run --json` on a free port, with a fixture as its worker. */
export function run(name: Fixture, options: readonly string[] = [], nodeArgs: readonly string[] = []): Cli {
  return corral(['run', '--port', '0', '--json', ...options, ...worker(name)], nodeArgs)
}

/** The end of a command line: a fixture that carries the mark of this test file. */
export function worker(name: Fixture): string[] {
  const marks = Object.entries(fixtureMark).flatMap(([key, value]) => ['--env', `${key}=${value}`])
  return [...marks, '--env', 'WORKER_ID={{id}}', '--', process.execPath, fixturePath(name)]
}

/** Where the gateway listens, once it does. */
export async function urlOf(cli: Cli): Promise<string> {
  return String((await cli.line('gateway.listening'))['url'])
}

export function get(url: string, session: string, init: RequestInit = {}): Promise<Response> {
  return fetch(url, { ...init, headers: { 'x-session-id': session } })
}

export async function getJson(url: string, session: string): Promise<Record<string, unknown>> {
  const response = await get(url, session)
  return (await response.json()) as Record<string, unknown>
}

function toLine(text: string): Line | undefined {
  try {
    return JSON.parse(text) as Line
  } catch {
    return undefined
  }
}
