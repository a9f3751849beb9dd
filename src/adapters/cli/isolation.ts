import { isAbsolute } from 'node:path'
import type { BindOptions, ProcessWorkerOptions } from '../../index.ts'
import type { FlagName } from './flags.ts'
import { type Given, UsageError, count, invalid, oneOf, size } from './given.ts'

/** How far workers are isolated, and what each may take. */
export type IsolationFlags = Pick<ProcessWorkerOptions, 'isolation' | 'limits' | 'onUnavailable' | 'stateDirectory'>

export function isolation(given: Given): IsolationFlags {
  const level = oneOf('isolation', given.one('isolation'), ['none', 'group', 'namespaces', 'full'])
  const network = oneOf('network', given.one('network'), ['host', 'none'])
  for (const name of ['network', 'bind', 'disk'] as const) {
    const isUsed = name === 'network' ? network === 'none' : given.has(name)
    if (isUsed && level !== 'full') throw new UsageError(`--${name} has no effect without --isolation full`)
  }
  return {
    isolation: { level, network, binds: given.all('bind').map(bind) },
    limits: {
      memory: optional(given, 'memory', size),
      cpu: optional(given, 'cpu', decimal),
      pids: optional(given, 'pids', count),
      files: optional(given, 'files', count),
      disk: optional(given, 'disk', size),
    },
    onUnavailable: given.has('degrade') ? 'degrade' : 'fail',
    stateDirectory: optional(given, 'state-dir', directory),
  }
}

function optional<T>(given: Given, name: FlagName, read: (name: FlagName, text: string) => T): T | undefined {
  return given.has(name) ? read(name, given.one(name)) : undefined
}

function directory(name: FlagName, text: string): string {
  // It would be the working directory.
  if (text === '') throw invalid(name, text, 'a path')
  return absolute(text)
}

function bind(text: string): BindOptions {
  const [, path = '', write] = /^(.*?)(:rw)?$/s.exec(text) ?? []
  if (path === '') throw invalid('bind', text, 'a path, or a path and ":rw"')
  return { source: absolute(path), access: write === undefined ? 'read-only' : 'read-write' }
}

/** Left as it is otherwise: by its text alone, `..` behind a link would lead elsewhere. */
function absolute(path: string): string {
  return isAbsolute(path) ? path : `${process.cwd()}/${path}`
}

function decimal(name: FlagName, text: string): number {
  if (!/^\d+(\.\d+)?$/.test(text)) throw invalid(name, text, 'a number such as 0.5 or 2')
  return Number(text)
}
