export type {
  CrashFact,
  DeathFact,
  HostPressure,
  PoolCommand,
  PoolFact,
  ProcessCommand,
  ProcessFact,
  Refusal,
  SessionCommand,
  SessionEndReason,
  SessionFact,
  SessionKey,
  StatusFact,
  WaitingSession,
  WearCause,
  WearFact,
  WorkerAddress,
  WorkerCommand,
  WorkerFact,
  WorkerOutput,
  WorkerStatus,
} from './events.ts'
export type { Failure, FailureCode, ProcessExit } from './failure.ts'
export { poolMachine } from './pool.ts'
export type { PoolEvent, PoolOutput } from './pool.ts'
export type { PoolContext, PoolInput, PoolPolicy } from './pool-context.ts'
export { sessionMachine } from './session.ts'
export type { SessionContext, SessionInput, SessionOutput } from './session.ts'
export { plan } from './sizing.ts'
export type { Census, Plan, SizeLimits } from './sizing.ts'
export { childOf, childrenOf } from './slots.ts'
export type { Slots } from './slots.ts'
export { dequeue, emptyQueue, enqueue, entries, remove } from './wait-queue.ts'
export type { WaitQueue } from './wait-queue.ts'
export { workerMachine } from './worker.ts'
export type { WorkerEvent } from './worker.ts'
export type { ProcessInput, ResetInput, WorkerContext, WorkerInput, WorkerPolicy } from './worker-context.ts'
