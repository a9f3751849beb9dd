import type * as z from 'zod'
import type { Pool } from '../../index.ts'
import type { Access } from './access.ts'
import type { AdminSettings } from './options.ts'
import type { AdminProblemCode } from './problem.ts'

/** One operation of the API: what answers requests, and what OpenAPI is generated from. */
export interface Operation<B = unknown> {
  readonly id: string
  readonly method: 'GET' | 'POST' | 'DELETE'
  /** As OpenAPI writes it; its one parameter is `{id}`. */
  readonly path: string
  readonly summary: string
  readonly description?: string
  readonly access: Access
  /** What the body must be. Absent: it is not read. */
  readonly body?: z.ZodType<B>
  readonly answers: Readonly<Record<number, Answer>>
  /** The problems that it may have besides those that any operation of its access may have. */
  readonly problems?: readonly AdminProblemCode[]
  run(call: Call<B>): Promise<Response> | Response
}

export interface Answer {
  readonly description: string
  /** Absent: there is no content, or `type` says what it is. */
  readonly schema?: z.ZodType
  readonly type?: string
}

/** One call of an operation. */
export interface Call<B = unknown> {
  readonly settings: AdminSettings
  /** @throws `POOL_STARTING` */
  readonly pool: Pool
  /** The parameter of the path, decoded; empty where there is none. */
  readonly id: string
  readonly body: B
}

/** Keeps the type of the body between its schema and `run`. */
export function operation<B>(definition: Operation<B>): Operation {
  return definition
}

export function json(value: unknown, status = 200): Response {
  return Response.json(value, { status })
}
