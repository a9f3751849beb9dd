// The pool
export { createPool } from './runtime/create-pool.ts'
export type { AcquireOptions, CloseOptions, DrainOptions, Pool, PoolStats } from './runtime/pool.ts'
export type {
  BreakerOptions,
  PoolOptions,
  PressureOptions,
  QueueOptions,
  RecycleOptions,
  ResetHook,
  RestartOptions,
  SessionOptions,
  SizeOptions,
  TenantOptions,
} from './runtime/options.ts'
export type { Clock } from './runtime/clock.ts'
export type { HostObserver, HostUsage } from './runtime/host/observer.ts'
export type { MemoryUsage } from './runtime/host/memory.ts'
export type { Lease, Session, WorkerInfo } from './runtime/lease.ts'
export type { SessionInfo, WorkerDetails } from './runtime/listing.ts'
export type { PoolEvent, PoolEvents, PoolEventType } from './runtime/events.ts'
export type { SessionEndReason, WearCause, WorkerAddress } from './machines/events.ts'
export type { Failure, FailureCode } from './machines/failure.ts'

// Workers
export { diagnose, processWorker } from './runtime/process/index.ts'
export type {
  BindOptions,
  Diagnosis,
  HealthCheckTarget,
  IsolationLevel,
  IsolationOptions,
  OutputSource,
  ProcessHealthOptions,
  ProcessStopOptions,
  ProcessWorkerOptions,
  ResourceLimits,
} from './runtime/process/index.ts'
export type {
  BackendStatus,
  LaunchContext,
  LivenessPolicy,
  WorkerBackend,
  WorkerExit,
  WorkerInstance,
} from './runtime/backend.ts'

// Errors
export {
  AcquireTimeoutError,
  CorralError,
  HostPressureError,
  InvalidOptionError,
  isCorralError,
  PeerMissingError,
  PoolClosedError,
  QueueFullError,
  SandboxUnavailableError,
  SessionEndedError,
  SessionLostError,
  StateDirectoryInUseError,
  TenantLimitError,
  WorkerStartError,
} from './runtime/errors.ts'
export type { ErrorCode, LossReason } from './runtime/errors.ts'
