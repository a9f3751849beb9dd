import type { Operation } from './operation.ts'
import { json, operation } from './operation.ts'
import { AdminProblem } from './problem.ts'
import * as schemas from './schemas.ts'
import { showSession, showWorker } from './view.ts'

/** The API, in the order of its description. */
export const operations: readonly Operation[] = [
  operation({
    id: 'getHealth',
    method: 'GET',
    path: '/healthz',
    summary: 'Whether the process lives',
    access: 'anyone',
    answers: { 200: { description: 'It does.', schema: schemas.health } },
    run: () => json({ status: 'ok' }),
  }),
  operation({
    id: 'getReadiness',
    method: 'GET',
    path: '/readyz',
    summary: 'Whether new sessions are taken',
    description: 'Fails as soon as a drain begins, before anything is refused.',
    access: 'anyone',
    answers: {
      200: { description: 'They are.', schema: schemas.readiness },
      503: { description: 'They are not: the server starts or shuts down.', schema: schemas.readiness },
    },
    run: async ({ settings }) =>
      (await settings.isReady()) ? json({ status: 'ready' }) : json({ status: 'unready' }, 503),
  }),
  operation({
    id: 'getStats',
    method: 'GET',
    path: '/stats',
    summary: 'Counts of workers, sessions and connections',
    access: 'anyone',
    answers: { 200: { description: 'What the pool holds now, and what is under way.', schema: schemas.stats } },
    problems: ['POOL_STARTING'],
    run: ({ pool, settings }) => json({ ...pool.stats(), gateway: settings.gateway()?.stats() }),
  }),
  operation({
    id: 'getMetrics',
    method: 'GET',
    path: '/metrics',
    summary: 'Metrics for Prometheus',
    access: 'anyone',
    answers: { 200: { description: 'The text exposition format.', type: 'text/plain' } },
    problems: ['METRICS_OFF'],
    run: async ({ settings: { metrics } }) => {
      if (metrics === undefined) throw new AdminProblem('METRICS_OFF')
      return new Response(await metrics.render(), { headers: { 'content-type': metrics.contentType } })
    },
  }),
  operation({
    id: 'listSessions',
    method: 'GET',
    path: '/sessions',
    summary: 'Every live session',
    access: 'reader',
    answers: { 200: { description: 'Oldest first.', schema: schemas.sessions } },
    problems: ['POOL_STARTING'],
    run: ({ pool }) => {
      const now = Date.now()
      return json({ sessions: pool.sessions().map((info) => showSession(info, now)) })
    },
  }),
  operation({
    id: 'getSession',
    method: 'GET',
    path: '/sessions/{id}',
    summary: 'One session',
    access: 'reader',
    answers: { 200: { description: 'The session.', schema: schemas.session } },
    problems: ['SESSION_UNKNOWN', 'POOL_STARTING'],
    run: ({ pool, id }) => {
      const info = pool.sessions().find((session) => session.id === id)
      if (info === undefined) throw new AdminProblem('SESSION_UNKNOWN')
      return json(showSession(info, Date.now()))
    },
  }),
  operation({
    id: 'endSession',
    method: 'DELETE',
    path: '/sessions/{id}',
    summary: 'End a session',
    description:
      'Answers once the session has ended: at once when it has no open connection, else when the last of them has closed, at the latest after `session.grace`.',
    access: 'writer',
    answers: { 204: { description: 'It has ended.' } },
    problems: ['SESSION_UNKNOWN', 'POOL_STARTING'],
    run: async ({ pool, id }) => {
      if (!(await pool.end(id))) throw new AdminProblem('SESSION_UNKNOWN')
      return new Response(null, { status: 204 })
    },
  }),
  operation({
    id: 'listWorkers',
    method: 'GET',
    path: '/workers',
    summary: 'Every worker that is not dead',
    access: 'reader',
    answers: { 200: { description: 'In the order of their making.', schema: schemas.workers } },
    problems: ['POOL_STARTING'],
    run: ({ pool }) => {
      const now = Date.now()
      return json({ workers: pool.workers().map((details) => showWorker(details, now)) })
    },
  }),
  operation({
    id: 'getWorker',
    method: 'GET',
    path: '/workers/{id}',
    summary: 'One worker, with the last lines that it wrote',
    access: 'reader',
    answers: { 200: { description: 'The worker.', schema: schemas.workerDetails } },
    problems: ['WORKER_UNKNOWN', 'POOL_STARTING'],
    run: ({ pool, id }) => {
      const details = pool.workers().find((worker) => worker.id === id)
      if (details === undefined) throw new AdminProblem('WORKER_UNKNOWN')
      return json({ ...showWorker(details, Date.now()), output: details.output })
    },
  }),
  operation({
    id: 'drainWorker',
    method: 'POST',
    path: '/workers/{id}/drain',
    summary: 'Take a worker out of service',
    description:
      'Its session is ended, and open connections get until the deadline. Then the worker is stopped, and another one started where the size of the pool or a waiting session demands it. Answers at once; the worker is dead when `GET /workers/{id}` answers 404.',
    access: 'writer',
    body: schemas.drainRequest,
    answers: { 202: { description: 'The drain has begun.', schema: schemas.workerDetails } },
    problems: ['WORKER_UNKNOWN', 'POOL_STARTING'],
    run: ({ pool, id, body, settings }) => {
      if (!pool.workers().some((worker) => worker.id === id)) throw new AdminProblem('WORKER_UNKNOWN')
      pool.drainWorker(id, body).catch((error: unknown) => settings.onError(error))
      const details = pool.workers().find((worker) => worker.id === id)
      // Its death was quicker than the question.
      if (details === undefined) throw new AdminProblem('WORKER_UNKNOWN')
      return json({ ...showWorker(details, Date.now()), output: details.output }, 202)
    },
  }),
  operation({
    id: 'getDescription',
    method: 'GET',
    path: '/openapi.json',
    summary: 'This description',
    access: 'anyone',
    answers: { 200: { description: 'OpenAPI 3.1.', type: 'application/json' } },
    run: ({ settings }) => json(settings.description),
  }),
]
