import type { WorkerBackend } from '../backend.ts'
import { validate } from '../validate.ts'
import { launchProcess } from './launch.ts'
import { processWorkerOptions } from './options.ts'
import type { ProcessWorkerOptions } from './options.ts'
import { parseTemplate } from './template.ts'

export type { HealthCheckTarget, OutputSource, ProcessHealthOptions, ProcessStopOptions } from './options.ts'
export type { ProcessWorkerOptions }

/**
 * A backend whose workers are processes on this machine, each in a process group of its own. Nothing is started yet.
 *
 * @example
 * processWorker({
 *   command: './my-binary',
 *   args: ['--port', '{{port}}'],
 *   env: { API_KEY: process.env.API_KEY },
 *   health: { path: '/health' },
 * })
 * @throws `INVALID_OPTION`
 */
export function processWorker(options: ProcessWorkerOptions): WorkerBackend {
  const settings = validate(processWorkerOptions, options)
  const template = parseTemplate(settings.args, settings.env)
  const { startTimeout, startAttempts, interval, timeout, failures } = settings.health
  return {
    startTimeout,
    startAttempts,
    stopGrace: settings.stop.grace,
    liveness: { interval, timeout, failures },
    launch: (context) => launchProcess(settings, template, context),
  }
}
