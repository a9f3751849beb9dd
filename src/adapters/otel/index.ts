export { createTracing } from './tracing.ts'
export type { Tracing } from './tracing.ts'
export type { TracingOptions } from './options.ts'
