import * as z from 'zod'
import type { AcquireOptions, CloseOptions, DrainOptions } from './pool.ts'
import { abortSignal, duration, validate } from './validate.ts'

const SESSION_ID = 'a session id: text that is not empty'
const TENANT = 'the name of a tenant: text that is not empty'
const acquireOptions = z.strictObject({
  id: z.string(SESSION_ID).min(1, SESSION_ID),
  timeout: duration.optional(),
  signal: abortSignal.optional(),
  tenant: z.string(TENANT).min(1, TENANT).optional(),
})
const drainOptions = z.strictObject({ deadline: duration.default(30_000) }).default({ deadline: 30_000 })
const closeOptions = z.strictObject({ force: z.boolean().default(false) }).default({ force: false })
const anyOptions = z.record(z.string(), z.unknown()).optional()

/** @throws `INVALID_OPTION` */
export function validateAcquire(id: string, options?: AcquireOptions): AcquireOptions {
  validate(anyOptions, options)
  validate(acquireOptions, { ...options, id })
  return options ?? {}
}

/** @throws `INVALID_OPTION` */
export function validateDrain(options?: DrainOptions): { readonly deadline: number } {
  return validate(drainOptions, options)
}

/** @throws `INVALID_OPTION` */
export function validateClose(options?: CloseOptions): { readonly force: boolean } {
  return validate(closeOptions, options)
}
