import type { Failure, ProcessExit } from './failure.ts'

/** A TCP port on a host, or the path of a unix socket. */
export type WorkerAddress = { readonly host: string; readonly port: number } | { readonly socketPath: string }

/** What a pool counts its workers by. A worker that is being killed counts as `draining`. */
export type WorkerStatus = 'spawning' | 'healthy' | 'leased' | 'resetting' | 'draining' | 'restarting' | 'dead'

/**
 * Why a session ended: its owner ended it, it had no open connection for too long, it was too old, its worker failed,
 * or its worker or pool was drained.
 */
export type SessionEndReason = 'released' | 'expired' | 'max-age' | 'lost' | 'drained'

/** Names one session: its id, and the number that tells two sessions of one id apart. */
export interface SessionKey {
  readonly sessionId: string
  readonly token: number
}

/** A session that waits for a worker. */
export interface WaitingSession extends SessionKey {
  /** Number of the session, in order of arrival. */
  readonly token: number
  /** On whose behalf it is opened: tenants take turns. Sessions without one are those of one more tenant. */
  readonly tenant?: string | undefined
}

/** Commands to a session. */
export type SessionCommand =
  /** Its first connection opened. */
  | { readonly type: 'session.connected' }
  /** Its last connection closed. */
  | { readonly type: 'session.disconnected' }
  /** End it. `grace`: milliseconds that open connections get, instead of the session's own. */
  | { readonly type: 'session.end'; readonly reason: SessionEndReason; readonly grace?: number | undefined }

/** What a session tells the worker that invoked it. Its end is its output. */
export type SessionFact = SessionKey & { readonly type: 'session.closing'; readonly reason: SessionEndReason }

/** Commands to a worker. */
export type WorkerCommand =
  /** Take this session. `round` is the one that it was served in: its place in the queue, if it is refused. */
  | (WaitingSession & { readonly type: 'worker.lease'; readonly round?: number | undefined })
  /** End its session, if it has one, and stop it. `grace`: as in `session.end`. */
  | { readonly type: 'worker.stop'; readonly grace?: number | undefined }

/** What the actor `process` tells its worker. */
export type ProcessFact =
  | { readonly type: 'process.started'; readonly pid: number | undefined; readonly address: WorkerAddress }
  | ({ readonly type: 'process.exited' } & ProcessExit)

/**
 * Why a process is to be replaced that serves as it should: it has served as many sessions as one may, it is too old, or
 * it takes too much memory.
 */
export type WearCause = 'sessions' | 'age' | 'memory'

/** What the actor `wear` tells its worker: the process is to be replaced as soon as it has no session. */
export interface WearFact {
  readonly type: 'worker.worn'
  readonly cause: WearCause
}

/** What a worker tells the actor `process`. */
export type ProcessCommand = { readonly type: 'process.stop' } | { readonly type: 'process.kill' }

/** A worker changed its status; `from` is the one it reported before. */
export type StatusFact = { readonly workerId: string; readonly from: WorkerStatus } & (
  | { readonly type: 'worker.spawning'; readonly incarnation: number }
  | { readonly type: 'worker.ready'; readonly pid: number | undefined; readonly address: WorkerAddress | undefined }
  | (SessionKey & { readonly type: 'worker.leased' })
  | { readonly type: 'worker.resetting' }
  | { readonly type: 'worker.draining'; readonly failure: Failure | null }
  | { readonly type: 'worker.restarting'; readonly attempt: number; readonly delay: number }
)

/** A worker has ended. It does not report this: its pool learns it from its output. */
export type DeathFact = { readonly type: 'worker.dead' } & WorkerOutput

/** A worker failed. It counts as `restarting` until it tells, right after, whether it will restart or is dead. */
export interface CrashFact {
  readonly type: 'worker.crashed'
  readonly workerId: string
  readonly from: WorkerStatus
  readonly failure: Failure
  /** Whether the process had been leased before. */
  readonly served: boolean
}

/** What a worker tells the pool that spawned it. */
export type WorkerFact =
  | StatusFact
  | CrashFact
  /** The lease came too late: the worker was not healthy any more. */
  | (WaitingSession & {
      readonly type: 'worker.leaseRefused'
      readonly workerId: string
      readonly round?: number | undefined
    })
  | (WearFact & { readonly workerId: string })
  | (SessionFact & { readonly workerId: string })
  | (SessionKey & { readonly type: 'session.lost'; readonly workerId: string; readonly failure: Failure })
  | (SessionKey & { readonly type: 'session.ended'; readonly workerId: string; readonly reason: SessionEndReason })

/** How a worker's life ended: because it was told to, or because it failed. */
export interface WorkerOutput {
  readonly workerId: string
  /** The status that it reported last. */
  readonly from: WorkerStatus
  readonly reason: 'stopped' | 'failed'
  readonly exitCode: number | null
  readonly signal: string | null
  readonly failure: Failure | null
}

/** Shares of the host that are in use, 0 to 1; `null` when they are not known. */
export interface HostPressure {
  readonly cpu: number | null
  readonly memory: number | null
}

/** Commands to a pool, and what it is told of its host. */
export type PoolCommand =
  | (WaitingSession & { readonly type: 'session.acquire' })
  /** Nobody waits for this session any more. */
  | (Pick<WaitingSession, 'token' | 'tenant'> & { readonly type: 'session.cancel' })
  /** End this worker's session, if it has one, and stop it; others take its place as need be. `grace`: as in `session.end`. */
  | { readonly type: 'worker.drain'; readonly workerId: string; readonly grace?: number | undefined }
  /** The host has too little left: bind no worker to a new session. */
  | (HostPressure & { readonly type: 'host.pressed' })
  /** It has enough again. */
  | (HostPressure & { readonly type: 'host.relieved' })
  /** Take no new sessions, end all others, stop every worker. `grace`: as in `session.end`. */
  | { readonly type: 'pool.drain'; readonly grace?: number | undefined }

/** Why a waiting session gets no worker. `failure` is there when starts fail. */
export type Refusal = SessionKey & {
  readonly type: 'session.refused'
  readonly code: 'QUEUE_FULL' | 'HOST_PRESSURE' | 'POOL_DRAINING' | 'START_FAILED'
  readonly failure: Failure | null
}

/** What a pool emits: what its workers told it, and what it decided. */
export type PoolFact =
  | DeathFact
  | Exclude<WorkerFact, { type: 'worker.leased' | 'worker.leaseRefused' }>
  | (SessionKey & { readonly type: 'session.started'; readonly workerId: string })
  | Refusal
  | { readonly type: 'pool.running' }
  | { readonly type: 'pool.breakerOpened'; readonly failure: Failure }
  | { readonly type: 'pool.breakerHalfOpened' }
  | { readonly type: 'pool.breakerClosed' }
  | (HostPressure & { readonly type: 'pool.pressed' })
  | (HostPressure & { readonly type: 'pool.relieved' })
  | { readonly type: 'pool.draining' }
  | { readonly type: 'pool.stopped' }
