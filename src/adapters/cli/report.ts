// The other one underlines and colours parts of what it prints, and strangers' words are among it.
import { createConsola } from 'consola/basic'
import type { AdoptedSession, RequestRecord } from '../h3/index.ts'
import { type PoolEvent, type PoolStats, type WorkerAddress, isCorralError } from '../../index.ts'
import { formatDuration } from './duration.ts'
import { LineOutput, standardOutput } from './line-output.ts'
import { printFailure } from './print.ts'
import { visible } from './visible.ts'

/** What `corral run` tells: the pool's events, and its own. */
export type ReportEvent =
  | PoolEvent
  | { readonly type: 'pool.running'; readonly workers: PoolStats['workers'] }
  | { readonly type: 'gateway.listening' | 'admin.listening'; readonly url: string; readonly port: number }
  | { readonly type: 'gateway.stopping'; readonly signal: string; readonly grace: number }
  | { readonly type: 'gateway.cutting'; readonly signal: string }
  | { readonly type: 'gateway.stopped' }
  | {
      readonly type: 'worker.output'
      readonly workerId: string
      readonly stream: 'stdout' | 'stderr'
      readonly line: string
    }
  | {
      readonly type: 'request.failed'
      readonly code: string
      /** Absent when the response had begun. */
      readonly status: number | undefined
      readonly sessionId: string | undefined
      readonly method: string | undefined
      readonly error: unknown
    }
  | ({ readonly type: 'request.ended' } & RequestRecord)
  | ({ readonly type: 'session.adopted' } & AdoptedSession)
  /** The file of tokens says something else than before. */
  | { readonly type: 'tokens.read'; readonly tokens: number }
  /** Something that does no harm, and hardly was meant so. */
  | { readonly type: 'warning'; readonly message: string }
  | { readonly type: 'error'; readonly error: unknown }

export type Report = (event: ReportEvent) => void

/** Prints events: as lines to read, or as JSON objects, one a line. */
export function createReport({ json }: { json: boolean }): Report {
  const output = new LineOutput(standardOutput(), {
    onLoss: ({ message }) => printFailure(`Cannot write the output, lines of it are lost: ${message}`),
    onMended: (lines) => {
      report({
        type: 'warning',
        message: `${lines} ${lines === 1 ? 'line' : 'lines'} of this output, shortly before this one, could not be written`,
      })
    },
  })
  const report = json ? jsonReport(output) : lineReport(output)
  return report
}

function lineReport(output: LineOutput): Report {
  // It takes a stream, and does nothing but write to it.
  const stdout = output as unknown as NodeJS.WriteStream
  const consola = createConsola({
    // The default one hides events when NODE_ENV is "test".
    level: 3,
    // Else lines that are alike are held back and counted.
    throttle: 0,
    stdout,
    // Warnings are events as others are, and belong among them.
    stderr: stdout,
    formatOptions: { date: false },
  })
  return (event) => {
    if (event.type === 'error') printFailure(messageOf(event.error))
    else if (isWarning(event)) consola.warn({ message: describe(event), badge: false })
    else consola.info(describe(event))
  }
}

function jsonReport(output: LineOutput): Report {
  return (event) => void output.write(`${toJson(event, new Date())}\n`)
}

export function toJson(event: ReportEvent, time: Date): string {
  const text = JSON.stringify({ time: time.toISOString(), ...event }, (_key, value: unknown) =>
    value instanceof Error ? { code: codeOf(value), message: value.message } : value,
  )
  // What JSON leaves as it is may still drive a terminal, or end a line.
  return visible(text)
}

// oxlint-disable typescript/consistent-return -- the switch names every type
/** The event as one line. Ids come from strangers and are quoted, so that none can forge a line. */
export function describe(event: Exclude<ReportEvent, { type: 'error' }>): string {
  switch (event.type) {
    case 'gateway.listening':
      return `gateway listening on ${event.url}`
    case 'admin.listening':
      return `admin listening on ${event.url}`
    case 'gateway.stopping':
      return `${event.signal}: no new sessions, open connections get ${formatDuration(event.grace)}; again to stop now`
    case 'gateway.cutting':
      return `${event.signal} again: stopping now`
    case 'gateway.stopped':
      return 'gateway stopped'
    case 'warning':
      return printable(event.message)
    case 'worker.output':
      return `${event.workerId} ${event.stream} | ${printable(event.line)}`
    case 'request.failed':
      return `request failed: ${event.code}${event.status === undefined ? '' : ` ${event.status}`}, ${event.method ?? 'no method'}, session ${quote(event.sessionId)}: ${printable(messageOf(event.error))}`
    case 'request.ended':
      return describeRequest(event)
    case 'pool.running':
      return `pool running: ${event.workers.healthy} ${event.workers.healthy === 1 ? 'worker' : 'workers'} ready`
    case 'worker.spawning':
      return `worker ${event.workerId} starting${event.incarnation > 0 ? ` (start ${event.incarnation + 1})` : ''}`
    case 'worker.ready':
      return `worker ${event.workerId} ready${pidOf(event.pid)}, ${addressOf(event.address)}`
    case 'worker.resetting':
      return `worker ${event.workerId} resetting`
    case 'worker.worn':
      return `worker ${event.workerId} to be replaced for its ${event.cause}`
    case 'worker.draining':
      return event.failure
        ? `worker ${event.workerId} stopping: ${printable(event.failure.message)}${lastLine(event.failure.output)}`
        : `worker ${event.workerId} stopping`
    case 'worker.crashed':
      return `worker ${event.workerId} crashed: ${printable(event.failure.message)}${lastLine(event.failure.output)}`
    case 'worker.restarting':
      return `worker ${event.workerId} restarting in ${formatDuration(event.delay)} (attempt ${event.attempt})`
    case 'worker.dead':
      return `worker ${event.workerId} gone: ${event.reason}, ${exitOf(event)}`
    case 'session.started':
      return `session ${quote(event.sessionId)} started on ${event.workerId}`
    case 'session.adopted':
      return `session ${quote(event.sessionId)} is called ${quote(event.id)} by its worker${ownerOf(event.principal)}`
    case 'tokens.read':
      return `tokens read again: ${event.tokens} ${event.tokens === 1 ? 'is' : 'are'} good now`
    case 'session.lost':
      return `session ${quote(event.sessionId)} lost on ${event.workerId}: ${event.reason}, ${exitOf(event)}${lastLine(event.output)}`
    case 'session.ended':
      return `session ${quote(event.sessionId)} ended on ${event.workerId}: ${event.reason}`
    case 'pool.breakerOpened':
      return `workers keep failing to start, new sessions are refused: ${printable(event.error.message)}`
    case 'pool.breakerHalfOpened':
      return 'trying to start a worker again'
    case 'pool.breakerClosed':
      return 'workers start again'
    case 'pool.pressed':
      return `the host is pressed, new sessions wait or are refused: ${describePressure(event)}`
    case 'pool.relieved':
      return `the host is relieved, new sessions are taken: ${describePressure(event)}`
    case 'pool.draining':
      return 'pool draining'
    case 'pool.stopped':
      return 'pool stopped'
  }
}

function describePressure({ cpu, memory }: PoolEvent<'pool.pressed' | 'pool.relieved'>): string {
  const inUse = (share: number | null) => (share === null ? 'unknown' : `${Math.round(share * 100)} %`)
  return `CPU ${inUse(cpu)}, memory ${inUse(memory)}`
}

/** Method and target are a stranger's words as ids are. */
function describeRequest(record: RequestRecord): string {
  const { kind, outcome, status, code, method = '', target = '', sessionId, principal, workerId, address } = record
  const what = `${kind === 'websocket' ? 'websocket' : printable(method)} ${quote(target)}`
  const answer = [status ?? 'no answer', outcome === 'answered' ? undefined : outcome, code]
  const owner = ownerOf(principal)
  const where = workerId === undefined ? '' : ` on ${workerId}`
  const session = sessionId === undefined ? owner : `, session ${quote(sessionId)}${owner}${where}`
  return `${address ?? 'somebody'} ${what} ${answer.filter((part) => part !== undefined).join(' ')}, ${Math.round(record.duration)}ms, ${record.bytesIn} B in, ${record.bytesOut} B out${session}`
}

const WARNINGS: ReadonlySet<ReportEvent['type']> = new Set([
  'warning',
  'worker.crashed',
  'session.lost',
  'pool.breakerOpened',
  'pool.pressed',
  'request.failed',
])

function isWarning(event: ReportEvent): boolean {
  return WARNINGS.has(event.type) || (event.type === 'worker.draining' && event.failure !== null)
}

function ownerOf(principal: string | undefined): string {
  return principal === undefined ? '' : ` of ${quote(principal)}`
}

function pidOf(pid: number | undefined): string {
  return pid === undefined ? '' : `, pid ${pid}`
}

function addressOf(address: WorkerAddress): string {
  return 'socketPath' in address ? address.socketPath : `${address.host}:${address.port}`
}

function exitOf({ exitCode, signal }: { exitCode: number | null; signal: string | null }): string {
  if (signal !== null) return signal
  return exitCode === null ? 'exit status unknown' : `exit status ${exitCode}`
}

function lastLine(lines: readonly string[]): string {
  const line = lines.at(-1)
  return line === undefined ? '' : ` | ${printable(line)}`
}

function quote(id: string | undefined): string {
  return id === undefined ? 'unknown' : visible(JSON.stringify(id))
}

/** One line, without the colours that programs like to print. */
function printable(text: string): string {
  // Of blanks without end only some are looked at again and again.
  return visible(text.replace(COLOR, '').replace(/\s{0,80}\n\s*/g, ' | '))
}

// oxlint-disable-next-line no-control-regex
const COLOR = /\u001b\[[\d;:]*m/g

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function codeOf(error: Error): string | undefined {
  if (isCorralError(error)) return error.code
  // Some have the property, and nothing in it.
  const { code } = error as { code?: unknown }
  return typeof code === 'string' ? code : undefined
}
