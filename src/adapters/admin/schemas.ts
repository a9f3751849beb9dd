import * as z from 'zod'
import type { PoolStats } from '../../index.ts'
import type { GatewayStats } from '../h3/index.ts'
import { adminProblems } from './problem.ts'

/**
 * What requests bring and answers hold. The same schemas validate bodies, describe the API in OpenAPI and are compared with real
 * answers by the tests.
 */
export const components = z.registry<{ readonly id: string; readonly description: string }>()

const count = z.int().min(0)
const milliseconds = z.number().min(0)
const time = z.iso.datetime()

export const health = z
  .strictObject({ status: z.literal('ok') })
  .register(components, { id: 'Health', description: 'The process lives.' })

export const readiness = z
  .strictObject({ status: z.enum(['ready', 'unready']) })
  .register(components, { id: 'Readiness', description: 'Whether new sessions are taken.' })

const poolStats = {
  state: z.enum(['running', 'draining', 'stopped']),
  pressure: z.enum(['relieved', 'pressed']).describe('Whether the host has too little left for new sessions.'),
  host: z
    .strictObject({
      cpu: z.number().min(0).max(1).nullable().describe('Share of them that was busy over the last seconds.'),
      cpus: z.number().min(0).describe('CPUs that the process may keep busy.'),
      memory: z
        .strictObject({ used: z.number().min(0), total: z.number().min(0) })
        .describe('In bytes, of the machine or of the cgroup whose limit is nearest.'),
    })
    .nullable()
    .describe('The host as it was sampled last; `null` before the first sample.'),
  breaker: z.enum(['closed', 'open', 'halfOpen']).describe('Circuit breaker on starting workers.'),
  workers: z
    .strictObject({
      total: count,
      spawning: count,
      healthy: count,
      leased: count,
      resetting: count,
      draining: count,
      restarting: count,
    })
    .describe('Workers by state.'),
  pendingAdds: count.describe('Workers that are being started.'),
  size: z.strictObject({ min: count, max: count, warm: count }),
  sessions: z.strictObject({ active: count, idle: count, closing: count }).describe('Live sessions by state.'),
  leases: count.describe('Open connections on live sessions.'),
  queue: z
    .strictObject({ sessions: count, waiters: count })
    .describe('Sessions that wait for a worker, and the requests behind them.'),
  tenants: count.describe('Tenants that have a session or wait for one.'),
  totals: z
    .strictObject({
      sessionsStarted: count,
      sessionsEnded: count,
      sessionsLost: count,
      workersStarted: count,
      workersCrashed: count,
      workersOutOfMemory: count,
      workersWorn: count,
      resetsFailed: count,
    })
    .describe('Counts since the pool was made.'),
  isolation: z
    .strictObject({
      level: z.string().describe('The level in effect.'),
      missing: z.array(z.string()).readonly().describe('What was asked for and is not to be had on this machine.'),
      left: z
        .array(z.int().min(1))
        .readonly()
        .optional()
        .describe('Ids of processes of workers that could not be killed and may still be there. Absent: of none.'),
    })
    .optional()
    .describe('How far the workers are isolated. Absent when their backend does not say.'),
} satisfies { [K in keyof PoolStats]-?: z.ZodType<PoolStats[K]> }

const gatewayStats = {
  requests: count.describe('Requests with a session, from their head to the end of their response.'),
  webSockets: count.describe('WebSockets, and handshakes on their way to be some.'),
} satisfies { [K in keyof GatewayStats]-?: z.ZodType<GatewayStats[K]> }

export const stats = z
  .strictObject({
    ...poolStats,
    gateway: z.strictObject(gatewayStats).optional().describe('What is under way. Absent where there is no gateway.'),
  })
  .register(components, { id: 'Stats', description: 'What the pool holds now.' })

export const session = z
  .strictObject({
    id: z.string(),
    token: count.describe('Tells two sessions of one id apart.'),
    workerId: z.string().describe('The worker that is bound to it.'),
    state: z
      .enum(['active', 'idle', 'closing'])
      .describe('`active` with an open connection, `idle` without, `closing` while open ones get their grace.'),
    startedAt: time.describe('When a worker was bound to it.'),
    age: milliseconds.describe('Milliseconds since then.'),
    idleFor: milliseconds
      .optional()
      .describe('Milliseconds since its last connection closed. Absent unless it is `idle`.'),
    connections: count.describe('Open connections.'),
    tenant: z.string().optional().describe('On whose behalf it was opened. Absent where nobody is told apart.'),
  })
  .register(components, { id: 'Session', description: 'A live session.' })

export const sessions = z
  .strictObject({ sessions: z.array(session) })
  .register(components, { id: 'SessionList', description: 'Every live session, oldest first.' })

const worker = z
  .strictObject({
    id: z.string(),
    state: z.enum(['spawning', 'healthy', 'leased', 'resetting', 'draining', 'restarting']),
    pid: z
      .int()
      .min(1)
      .optional()
      .describe('Process id. Absent while there is no process, and for workers that are no local processes.'),
    address: z
      .string()
      .optional()
      .describe('`host:port`, or the path of a unix socket. Absent while there is no process.'),
    incarnation: count.describe('Processes that were ready to serve as this worker before the present one.'),
    startedAt: time.optional().describe('When the start of its process began. Absent while there is no process.'),
    age: milliseconds.optional().describe('Milliseconds since then.'),
    sessionId: z.string().optional().describe('The session that is bound to it.'),
  })
  .register(components, { id: 'Worker', description: 'A worker that is not dead.' })

export const workers = z.strictObject({ workers: z.array(worker) }).register(components, {
  id: 'WorkerList',
  description: 'Every worker that is not dead, in the order of their making.',
})

export const workerDetails = worker
  .extend({ output: z.array(z.string()).describe('The last lines that it wrote, oldest first.') })
  .register(components, { id: 'WorkerDetails', description: 'A worker, with the last lines that it wrote.' })

export const drainRequest = z
  .strictObject({
    deadline: z
      .int()
      .min(0)
      .max(2_147_483_647)
      .default(30_000)
      .describe('Milliseconds that open connections of its session get before they are cut.'),
  })
  .register(components, {
    id: 'DrainRequest',
    description: 'How to drain a worker. Every field may be left out, and the body too.',
  })

export const problem = z
  .strictObject({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    code: z.enum(Object.keys(adminProblems) as [keyof typeof adminProblems]),
    detail: z.string().optional().describe('What is wrong with this request in particular.'),
  })
  .register(components, { id: 'Problem', description: 'Why a request was refused (RFC 9457).' })
