import { afterEach } from 'vitest'
import type { WorkerExit, WorkerInstance } from '../../../src/runtime/backend.ts'
import { requestStatus } from '../../../src/runtime/http-client.ts'
import { processWorker } from '../../../src/runtime/process/index.ts'
import type { OutputSource, ProcessWorkerOptions } from '../../../src/runtime/process/index.ts'

const started = new Set<WorkerInstance>()

afterEach(async () => {
  for (const instance of started) instance.kill()
  await Promise.all([...started].map(({ exited }) => exited))
  started.clear()
})

/** A signal that never aborts. */
export const never: AbortSignal = new AbortController().signal

/** Starts a worker that is killed at the end of the test, if it is not gone by then. */
export async function launch(options: ProcessWorkerOptions, workerId = 'w1'): Promise<WorkerInstance> {
  const instance = await processWorker(options).launch({ workerId, signal: never })
  started.add(instance)
  return instance
}

/** The same, once it is ready. */
export async function launchReady(options: ProcessWorkerOptions, workerId?: string): Promise<WorkerInstance> {
  const instance = await launch(options, workerId)
  await instance.ready(never)
  return instance
}

/** Asks a worker for something it ends of, so that no answer comes. */
export async function provoke({ address, exited }: WorkerInstance, path: string): Promise<WorkerExit> {
  await requestStatus(address, { path, signal: never }).catch(() => {})
  return exited
}

export function portOf({ address }: Pick<WorkerInstance, 'address'>): number {
  if ('port' in address) return address.port
  throw new Error('the worker has no port')
}

export async function getJson<T>(worker: Pick<WorkerInstance, 'address'>, path: string): Promise<T> {
  const response = await fetch(`http://127.0.0.1:${portOf(worker)}${path}`)
  return (await response.json()) as T
}

/** Collects the lines of a worker, and lets a test wait for one. */
export function recordOutput() {
  const lines: (OutputSource & { line: string })[] = []
  const waiting = new Set<() => void>()
  const onOutput = (line: string, source: OutputSource) => {
    lines.push({ line, ...source })
    for (const check of waiting) check()
  }
  const find = (pattern: RegExp) =>
    new Promise<string>((resolve) => {
      const check = () => {
        const found = lines.find(({ line }) => pattern.test(line))
        if (found === undefined) return
        waiting.delete(check)
        resolve(found.line)
      }
      waiting.add(check)
      check()
    })
  return { lines, onOutput, find }
}
