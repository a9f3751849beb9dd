import type { H3 } from 'h3'
import type { Pool } from '../../index.ts'
import { createApp } from './app.ts'
import type { AdminListener } from './listen.ts'
import { listen } from './listen.ts'
import { describe } from './openapi.ts'
import { operations } from './operations.ts'
import type { AdminListenOptions, AdminOptions, Source } from './options.ts'
import { readListenOptions, readOptions } from './options.ts'
import { createAdminServer } from './server.ts'

/** The admin API of a pool. Made by {@link createAdmin}. */
export interface Admin {
  /** An h3 app with all of it. Do not mount it where sessions can reach it. */
  readonly app: H3
  /** Its description: OpenAPI 3.1. */
  readonly description: object
  /**
   * Listens on a port of its own, away from what sessions can reach.
   *
   * @throws `INVALID_OPTION`; an error with the code `EADDRINUSE`, `EACCES`, … when the port cannot be had.
   */
  listen(options?: AdminListenOptions): Promise<AdminListener>
}

/**
 * Makes the admin API of a pool: its health, what it holds, and the operations on single sessions and workers. The pool may be
 * still to come: until the function returns one, `/readyz` fails and whatever needs a pool answers 503.
 *
 * @throws `INVALID_OPTION`
 * @example
 * const admin = createAdmin(pool, { token: process.env.ADMIN_TOKEN })
 * const listener = await admin.listen({ port: 8081 })
 */
export function createAdmin(pool: Source<Pool>, options: AdminOptions = {}): Admin {
  const description = describe(operations)
  const app = createApp(operations, readOptions(pool, options, description))
  return {
    app,
    description,
    listen: async (listenOptions = {}) => {
      return listen(createAdminServer(app), readListenOptions(listenOptions))
    },
  }
}
