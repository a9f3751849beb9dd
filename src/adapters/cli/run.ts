import { setTimeout as sleep } from 'node:timers/promises'
import {
  type CorralError,
  InvalidOptionError,
  type Pool,
  type PoolOptions,
  createPool,
  isCorralError,
  processWorker,
} from '../../index.ts'
import { type AdminListener, createAdmin } from '../admin/index.ts'
import type { Gateway, GatewayOptions, ListenOptions } from '../h3/index.ts'
import { checkGateway, createGateway } from '../h3/index.ts'
import { ListenError, UNSAFE_PORT } from '../listen-error.ts'
import { type FlagName, flags, inFlags, passphraseVariable } from './flags.ts'
import { UsageError } from './given.ts'
import { identityOf } from './identity.ts'
import type { AdminOptions, RunOptions } from './options.ts'
import { printFailure } from './print.ts'
import { type Report, createReport } from './report.ts'
import { type StopSignals, aborted, watchSignals } from './signals.ts'
import { type Telemetry, createTelemetry } from './telemetry.ts'
import { awaitReader, unreadOutput } from './unread-output.ts'

/** What has been started, to be stopped again however the run ends. */
interface Parts {
  admin?: AdminListener
  pool?: Pool
  gateway?: Gateway
  telemetry?: Telemetry
  isReady: boolean
}

/**
 * Runs the gateway until a signal ends it. Resolves to the exit status, once no worker is left.
 *
 * @throws {UsageError} An option has a value that the library refuses.
 */
export async function run(options: RunOptions): Promise<number> {
  const report = createReport(options)
  reportWarnings(report)
  const signals = watchSignals()
  const status = await runUntil(signals, options, report)
  const unread = await awaitReader(unreadOutput, signals.cut)
  if (unread > 0) printFailure(`The reader of the output took too little: the last ${unread} bytes of it are lost`)
  return signals.cut.aborted ? 1 : status
}

/** Resolves to 0 or 1, whether or not there has been a second signal. */
async function runUntil(signals: StopSignals, options: RunOptions, report: Report): Promise<number> {
  const tellCut = () => report({ type: 'gateway.cutting', signal: String(signals.cut.reason) })
  signals.cut.addEventListener('abort', tellCut)
  const crash = new AbortController()
  const parts: Parts = { isReady: false }
  const over = aborted(signals.cut).then(() => sleep(lastResort))
  process.on('uncaughtException', (error) => {
    parts.isReady = false
    reportFailure(report, error)
    crash.abort(error)
  })
  try {
    await Promise.race([serve(options, report, parts, { ...signals, crash: crash.signal }), over])
  } catch (error) {
    if (error !== signals.stop.reason && !crash.signal.aborted) {
      throwIfUsage(error, options)
      reportFailure(report, error)
      return 1
    }
  } finally {
    await closePool(parts.pool, signals.cut, over)
    await parts.admin?.close()
    await parts.telemetry?.flush(signals.cut)
    // The end is told last.
    signals.cut.removeEventListener('abort', tellCut)
  }
  const left = idsLeft(parts.pool)
  if (left.length > 0) reportLeft(report, left)
  report({ type: 'gateway.stopped' })
  return crash.signal.aborted || left.length > 0 ? 1 : 0
}

/** Of processes that may still be there: those that could not be killed, and those that were not waited for. */
function idsLeft(pool: Pool | undefined): number[] {
  const unended = pool?.workers().flatMap(({ pid }) => pid ?? []) ?? []
  return [...new Set([...(pool?.stats().isolation?.left ?? []), ...unended])]
}

function reportLeft(report: Report, left: readonly number[]): void {
  const message = `Processes ${left.join(', ')} of workers have not ended, though they were killed`
  report({ type: 'warning', message })
}

/** Stops the workers politely, unless `cut` aborts first. What cannot be stopped then is killed at the exit. */
async function closePool(pool: Pool | undefined, cut: AbortSignal, over: Promise<void>): Promise<void> {
  if (!cut.aborted) await Promise.race([pool?.close(), aborted(cut)])
  if (cut.aborted) await Promise.race([pool?.close({ force: true }), over])
}

/** Milliseconds from the second signal in which all processes are to die that have been killed. */
const lastResort = 3_500

/** Warnings are events here, for whoever reads those, in place of Node's lines. */
function reportWarnings(report: Report): void {
  for (const listener of process.listeners('warning')) {
    // Node's own; those of a module that `--import` has loaded stay.
    if (listener.name === 'onWarning') process.off('warning', listener)
  }
  process.on('warning', ({ name, message }) => {
    report({ type: 'warning', message: name === 'CorralWarning' ? inFlags(message) : `${name}: ${message}` })
  })
}

async function serve(
  options: RunOptions,
  report: Report,
  parts: Parts,
  { stop, cut, crash }: StopSignals & { crash: AbortSignal },
): Promise<void> {
  const { admin, grace } = options
  const telemetry = await createTelemetry(options, report)
  parts.telemetry = telemetry
  const gatewayOptions = toGatewayOptions(options, report, telemetry)
  const listenOptions = toListenOptions(options)
  // Nothing is started for a command line that cannot be served.
  await listening(gatewayFlags, () => checkGateway(gatewayOptions, listenOptions))
  if (admin) {
    parts.admin = await listenAdmin(admin, report, parts, telemetry)
    report({ type: 'admin.listening', url: parts.admin.url, port: parts.admin.port })
  }
  const ended = AbortSignal.any([stop, crash])
  const pool = await startPool(options, report, telemetry, { signal: ended, forceSignal: cut })
  parts.pool = pool
  report({ type: 'pool.running', workers: pool.stats().workers })
  ended.throwIfAborted()

  const gateway = createGateway(pool, gatewayOptions)
  parts.gateway = gateway
  telemetry.metrics?.watch(pool, gateway)
  const listener = await listening(gatewayFlags, () => gateway.listen(listenOptions))
  parts.isReady = true
  report({ type: 'gateway.listening', url: listener.url, port: listener.port })

  await aborted(ended)
  parts.isReady = false
  if (!crash.aborted) report({ type: 'gateway.stopping', signal: String(stop.reason), grace })
  await delay(options.drainDelay, AbortSignal.any([cut, crash]))
  // Cut short, it is the caller that closes the pool, and the end of the process that cuts what is open.
  await Promise.race([
    Promise.all([pool.drain({ deadline: grace }), listener.close({ grace: grace + lastWords(grace) })]),
    aborted(AbortSignal.any([cut, crash])),
  ])
}

/** What a worker or the gateway did wrong. Other failures are the clients' doing, or told by the pool's events. */
const FAULTS: ReadonlySet<string> = new Set(['INTERNAL_ERROR', 'UPSTREAM_FAILED', 'UPSTREAM_TIMEOUT'])

function toGatewayOptions(options: RunOptions, report: Report, { hooks, metrics }: Telemetry): GatewayOptions {
  return {
    ...hooks,
    ...identityOf(options.identity, report),
    trustForwarded: options.proxies === 0 ? false : options.proxies,
    upstream: { headersTimeout: options.responseTimeout },
    pingInterval: options.pingInterval,
    client: { requestsPerSession: options.requestsPerSession, sendTimeout: options.sendTimeout },
    onError: (failure) => {
      metrics?.onError(failure)
      const { code, status, sessionId, method, cause } = failure
      if (!options.verbose && !FAULTS.has(code)) return
      report({ type: 'request.failed', code, status, sessionId, method, error: cause })
    },
  }
}

function toListenOptions({ host: hostname, port, tls, headersTimeout, keepAliveTimeout }: RunOptions): ListenOptions {
  return { hostname, port, tls, headersTimeout, keepAliveTimeout }
}

function listenAdmin(
  options: AdminOptions,
  report: Report,
  parts: Parts,
  { metrics }: Telemetry,
): Promise<AdminListener> {
  const { host: hostname, port, token, hosts } = options
  const admin = createAdmin(() => parts.pool, {
    token,
    hosts,
    isReady: () => parts.isReady,
    gateway: () => parts.gateway,
    metrics,
    onError: (error) => report({ type: 'error', error }),
  })
  return listening(adminFlags, () => admin.listen({ hostname, port }))
}

function startPool(
  options: RunOptions,
  report: Report,
  { onEvent }: Telemetry,
  signals: Pick<PoolOptions, 'signal' | 'forceSignal'>,
): Promise<Pool> {
  const worker = processWorker({
    command: options.command,
    args: options.args,
    env: options.env,
    ...options.isolation,
    health: { path: options.healthPath, startTimeout: options.startTimeout },
    stop: { grace: options.grace },
    onOutput: options.verbose
      ? (line, { workerId, stream }) => report({ type: 'worker.output', workerId, stream, line })
      : undefined,
  })
  return createPool({
    worker,
    ...options.pool,
    onEvent,
    ...signals,
  })
}

/** The flags that said where to listen; one of them may have said both. */
interface ListenFlags {
  readonly host: FlagName
  readonly port: FlagName
}

const gatewayFlags: ListenFlags = { host: 'host', port: 'port' }
const adminFlags: ListenFlags = { host: 'admin', port: 'admin' }

async function listening<T>(named: ListenFlags, listen: () => Promise<T>): Promise<T> {
  try {
    return await listen()
  } catch (error) {
    if (!(error instanceof ListenError)) throw error
    throw new ListenError(error.address, error.cause, `--${error.isOfHost ? named.host : named.port}`)
  }
}

/** How much longer than the pool the listener waits: what is over at the deadline is answered, and the answers get to leave. */
function lastWords(grace: number): number {
  return Math.min(1_000, grace)
}

/** Resolves after a while, or as soon as the signal aborts. */
async function delay(milliseconds: number, signal: AbortSignal): Promise<void> {
  if (milliseconds > 0) await sleep(milliseconds, undefined, { signal }).catch(() => {})
}

/** The library names its own options; here they have been given as flags. */
function throwIfUsage(error: unknown, { admin }: RunOptions): void {
  if (error instanceof UsageError) throw error
  // Another error of listening may be over at the next start.
  if (error instanceof ListenError && error.code === UNSAFE_PORT) throw new UsageError(error.message, { cause: error })
  if (!(error instanceof InvalidOptionError)) return
  const flag = flags.find(({ sets }) => sets === error.option)
  const source = variableOf(error.option, admin) ?? (flag ? `--${flag.name}` : partOf(error.option))
  throw new UsageError(inFlags(error.message.replace(/^Invalid option "[^"]*"/, source ?? '$&')), { cause: error })
}

/** The same error, with its options named as flags. */
function reworded(error: CorralError): Error {
  return Object.assign(new Error(inFlags(error.message), { cause: error }), { code: error.code })
}

/** What does not stand on the command line. */
function variableOf(option: string, admin: AdminOptions | undefined): string | undefined {
  if (option === 'tls.passphrase') return passphraseVariable
  return option === 'token' ? admin?.tokenFrom : undefined
}

/** What stands for one of several values of an option. */
function partOf(option: string): string | undefined {
  const [, list, part] = /^(args|env)\.(.*)$/s.exec(option) ?? []
  if (list === undefined) return undefined
  return list === 'env' ? `--env ${part}` : `Argument ${Number(part) + 1} of the workers' command`
}

function reportFailure(report: Report, error: unknown): void {
  const isOfOptions = isCorralError(error) && /^(?:SANDBOX|STATE_DIRECTORY)_/.test(error.code)
  report({ type: 'error', error: isOfOptions ? reworded(error) : error })
  if (isCorralError(error) || error instanceof ListenError) return
  // A fault of ours: whoever mends it needs to know where.
  if (error instanceof Error && error.stack !== undefined) printFailure(error.stack)
}
