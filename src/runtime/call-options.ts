import * as z from 'zod'
import type { AcquireOptions, CloseOptions, DrainOptions } from './pool.ts'
import { poolEventTypes } from './events.ts'
import { abortSignal, callback, duration, validate } from './validate.ts'

const SESSION_ID = 'a session id: text that is not empty'
const TENANT = 'the name of a tenant: text that is not empty'
const acquireCall = z.object({ id: z.string(SESSION_ID).min(1, SESSION_ID) })
const idCall = z.object({ id: z.string('an id: text') })
const onCall = z.object({
  type: z.custom((type) => type === '*' || poolEventTypes.has(type), 'the type of an event, or "*" for all'),
  listener: callback(),
})
const acquireOptions = z.strictObject({
  timeout: duration.optional(),
  signal: abortSignal.optional(),
  tenant: z.string(TENANT).min(1, TENANT).optional(),
})
const drainOptions = z.strictObject({ deadline: duration.default(30_000) }).default({ deadline: 30_000 })
const closeOptions = z.strictObject({ force: z.boolean().default(false) }).default({ force: false })

/** @throws `INVALID_OPTION` */
export function validateAcquire(id: string, options?: AcquireOptions): AcquireOptions {
  validate(acquireCall, { id })
  return options === undefined ? {} : validate(acquireOptions, options)
}

/** @throws `INVALID_OPTION` */
export function validateId(id: string): void {
  validate(idCall, { id })
}

/** @throws `INVALID_OPTION` */
export function validateListener(type: string, listener: unknown): void {
  validate(onCall, { type, listener })
}

/** @throws `INVALID_OPTION` */
export function validateDrain(options?: DrainOptions): { readonly deadline: number } {
  return validate(drainOptions, options)
}

/** @throws `INVALID_OPTION` */
export function validateClose(options?: CloseOptions): { readonly force: boolean } {
  return validate(closeOptions, options)
}
