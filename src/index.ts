export type { SessionEndReason, WorkerAddress } from './machines/events.ts'
export type { LaunchContext, LivenessPolicy, WorkerBackend, WorkerExit, WorkerInstance } from './runtime/backend.ts'
export type { ErrorCode } from './runtime/errors.ts'
export {
  CorralError,
  InvalidOptionError,
  WorkerStartError,
  AcquireTimeoutError,
  QueueFullError,
  SessionLostError,
  SessionEndedError,
  PoolClosedError,
  isCorralError,
} from './runtime/errors.ts'
export type { Lease, Session, WorkerInfo } from './runtime/lease.ts'
export type { PoolEvent, PoolEvents, PoolEventType } from './runtime/events.ts'
export type {
  BreakerOptions,
  PoolOptions,
  QueueOptions,
  ResetHook,
  RestartOptions,
  SessionOptions,
  SizeOptions,
} from './runtime/options.ts'
export type { AcquireOptions, DrainOptions, Pool, PoolStats } from './runtime/pool.ts'
export { createPool } from './runtime/pool.ts'
